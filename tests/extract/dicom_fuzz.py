"""One damaged file of the fuzz: made from a number, read, and given the name of its outcome."""

import numpy as np
from dicom_damage import cut_at_every_tag, damage_file

import extract.errors
from embeddings_store.errors import VolumeError
from extract.dicom.reader import read_dicom
from extract.preprocess import frame_chooser, preprocess
from extract.preset import PRESETS
from extract.volume import Volume

IMAGE_SIZE = (4, 16, 16)


def make_case(seeds: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """Give recipe and bytes of one number: first every cut at a tag of every seed, then damage at random."""
    name = list(seeds)[number % len(seeds)]
    cuts, turn = cut_at_every_tag(seeds[name]), number // len(seeds)
    if turn < len(cuts):
        return f"{name}: cut at tag {turn}", cuts[turn]
    recipe, data = damage_file(seeds[name], np.random.default_rng([seed, number]))
    return f"{name}: {recipe}", data


def read_case(data: bytes, number: int) -> str:
    """Read and preprocess; gives "Volume" or the class of the refusal. Anything unclassed is raised."""
    preset = PRESETS["finetune_v0" if number % 4 == 3 else "pretrain"]
    try:
        volume = read_dicom(data, frames=frame_chooser(preset, IMAGE_SIZE[0]))
        assert isinstance(volume, Volume)
        preprocess(volume, preset, IMAGE_SIZE)
    except VolumeError as error:
        assert type(error).__module__ == extract.errors.__name__
        assert error.stage in {"decode", "preprocess"}
        return type(error).__name__
    return "Volume"
