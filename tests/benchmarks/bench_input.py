"""P2: the bytes of a DICOM file -> the encoder's input, against pydicom's pixel_array and a resize of every voxel.

The file is a phantom scan of the Spectralis protocol with 512 frames of 496 x 512: 130 MB native.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import torch
from comparison import Goal, Row, memory_row, not_measured, time_row
from peak_memory import is_measurable, measure_peak
from settings import Settings
from side_by_side import in_turn
from torch.nn.functional import interpolate

from embeddings_store.grid import Grid
from embeddings_store.schema import Eye
from extract.dicom.reader import read_dicom
from extract.phantom.dicom_file import Identity, encode, scan_dataset
from extract.phantom.effect import Thinning
from extract.phantom.eye import draw_eye
from extract.phantom.render import Appearance
from extract.phantom.scan import make_scan
from extract.phantom.scanners import PROTOCOLS
from extract.preprocess import frame_chooser, preprocess
from extract.preset import PRESETS

IMAGE_SIZE, QUICK_SIZE = (64, 384, 384), (16, 96, 96)
TOLERANCE = 1e-5  # MODEL.md, section 3: against torch's interpolation
PROTOCOL = PROTOCOLS["spectralis_mac_20x20_hs_octa"]
GOALS = {"explicit": 4.0, "j2k": 3.5}
NAMES = {"explicit": "native", "j2k": "J2K"}
MEMORY_GOAL = Goal(ratio=4.0)
PEERS = {
    "torch": "pydicom pixel_array + F.interpolate(trilinear) + z-score",
    "monai": "pydicom pixel_array + MONAI Resize(trilinear) + NormalizeIntensity",
}


def measure(settings: Settings) -> list[Row]:
    shrink = {"explicit": 8 if settings.quick else 1, "j2k": 8 if settings.quick else 1 if settings.full else 2}
    return [row for syntax in GOALS for row in _rows(syntax, shrink[syntax], settings)]


def _rows(syntax: str, shrink: int, settings: Settings) -> list[Row]:
    path = settings.folder / f"{syntax}.dcm"
    path.write_bytes(phantom_file(syntax, shrink))
    rows_columns = f"{PROTOCOL.rows // shrink} x {PROTOCOL.columns // shrink}"
    work = f"{NAMES[syntax]} bytes -> encoder input, phantom, {PROTOCOL.frames} frames of {rows_columns}"
    cut = f"frames cut down {shrink}-fold a side" if shrink > 1 else ""
    rows = []
    for name, peer in PEERS.items():
        if name == "monai" and find_spec("monai") is None:
            rows += [not_measured("monai is not installed", id="P2", work=work, peer=peer, unit="s")]
            continue
        rows += [_time(path, name, syntax, settings, {"id": "P2", "work": work, "peer": peer}, cut)]
        if not settings.quick:  # no agreement to assert
            rows += [_memory(path, name, {"id": "P2", "work": f"peak memory: {work}", "peer": peer}, cut)]
    return rows


def _time(path: Path, name: str, syntax: str, settings: Settings, words: dict[str, str], cut: str) -> Row:
    data, size = path.read_bytes(), QUICK_SIZE if settings.quick else IMAGE_SIZE
    timed = in_turn(
        partial(our_input, data, size),
        partial(INPUTS[name], data, size),
        rounds=1 if settings.quick else 3,
        agree=partial(_same_input, size=size),
    )
    return time_row(timed, goal=Goal(ratio=GOALS[syntax]), notes=[cut], **words)


def _memory(path: Path, name: str, words: dict[str, str], cut: str) -> Row:
    if not is_measurable():
        return not_measured("needs /proc", unit="MB", **words)
    ours, peer = (measure_peak("bench_input", case, path=str(path)) for case in ("ours", name))
    return memory_row(ours, peer, goal=MEMORY_GOAL, notes=[cut], **words)


def phantom_file(syntax: str, shrink: int, *, shape: Grid | None = None) -> bytes:
    """Make one scan with all of its frames, rows and columns cut down; shape: of the voxels, in place of that."""
    smaller = PROTOCOL.scaled(1 / shrink)
    protocol = replace(smaller, frames=PROTOCOL.frames, frame_mm=PROTOCOL.frame_mm)
    if shape is not None:
        protocol = replace(PROTOCOL, **dict(zip(("frames", "rows", "columns"), shape, strict=True)))
    scan = make_scan(
        draw_eye(0, 1001, Eye.RIGHT),
        protocol,
        np.random.SeedSequence(0),
        thinning=Thinning(),
        class_index=0,
        look=Appearance(),
    )
    dataset = scan_dataset(scan, Identity("1001", 0))
    encode(dataset, syntax)
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def our_input(data: bytes, size: Grid = IMAGE_SIZE) -> np.ndarray:
    preset = PRESETS["pretrain"]
    volume = read_dicom(data, frames=frame_chooser(preset, size[0]))
    return preprocess(volume, preset, size)


def torch_input(data: bytes, size: Grid = IMAGE_SIZE) -> np.ndarray:
    voxels = pydicom.dcmread(BytesIO(data)).pixel_array.astype(np.float32)
    volume = torch.from_numpy(voxels)[None, None]
    resized = interpolate(volume, size=size, mode="trilinear", align_corners=False)[0]
    return ((resized - resized.mean()) / resized.std(correction=0)).numpy()


def monai_input(data: bytes, size: Grid = IMAGE_SIZE) -> np.ndarray:
    from monai.transforms import Compose, NormalizeIntensity, Resize

    voxels = pydicom.dcmread(BytesIO(data)).pixel_array.astype(np.float32)
    transform = Compose([Resize(size, mode="trilinear", align_corners=False), NormalizeIntensity()])
    return np.asarray(transform(voxels[None]))


INPUTS: dict[str, Callable[..., np.ndarray]] = {"ours": our_input, "torch": torch_input, "monai": monai_input}


def _same_input(ours: np.ndarray, peer: np.ndarray, size: Grid) -> str:
    deviation = float(np.abs(ours - peer).max())
    assert ours.shape == peer.shape == (1, *size)
    assert deviation <= TOLERANCE, f"inputs differ by {deviation}"
    return f"equal to {deviation:.1e}"


def _memory_case(name: str, path: str) -> Callable[[], np.ndarray]:
    if name == "monai":
        import_module("monai.transforms")  # before the work, as every other import
    return partial(INPUTS[name], Path(path).read_bytes())


MEMORY = {name: partial(_memory_case, name) for name in INPUTS}
