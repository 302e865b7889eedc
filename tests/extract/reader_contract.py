"""What every reader keeps to, inherited by the tests of each."""

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import layered_volume

from embeddings_store.schema import Eye
from extract.errors import ScanError
from extract.readers.contract import ScanFile
from extract.readers.open import read_scan, reader_for, volumes_in
from extract.readers.read_options import ReadOptions
from extract.volume import Volume

TRIES = 25


class ReaderContract:
    """A subclass makes the files of a stack. checked: any change of a byte of pixels is noticed by a checksum."""

    kind: str
    options = ReadOptions()
    checked = False
    by_content = True
    eye = Eye.UNKNOWN
    spacing: tuple[float, float, float] | None = None

    def voxels(self) -> np.ndarray:
        return layered_volume(11, 16, 12)

    def files(self, voxels: np.ndarray) -> list[ScanFile]:
        raise NotImplementedError

    def read(self, files: Sequence[ScanFile], **words: object) -> Volume:
        return read_scan(files, options=self.options, **words)

    @pytest.fixture
    def made(self) -> tuple[list[ScanFile], np.ndarray]:
        voxels = self.voxels()
        return self.files(voxels), voxels

    def test_voxels_are_equal_bit_for_bit(self, made: tuple[list[ScanFile], np.ndarray]) -> None:
        files, voxels = made
        volume = self.read(files)
        np.testing.assert_array_equal(volume.voxels, voxels)
        assert volume.voxels.dtype == voxels.dtype
        assert (volume.frame_count, volume.eye) == (len(voxels), self.eye)
        if self.spacing is None:
            assert volume.spacing_mm is None
        else:
            assert volume.spacing_mm == pytest.approx(self.spacing, nan_ok=True)

    def test_files_come_in_any_order_and_chosen_frames_alone_are_given(
        self, made: tuple[list[ScanFile], np.ndarray]
    ) -> None:
        files, voxels = made
        shuffled = random.Random(3).sample(files, len(files))
        some = self.read(shuffled, frames=lambda count: np.arange(1, count, 3))
        np.testing.assert_array_equal(some.voxels, voxels[1::3])
        assert (some.frame_numbers.tolist(), some.frame_count) == (list(range(1, len(voxels), 3)), len(voxels))

    def test_a_kind_is_known_by_content_before_its_name(self, made: tuple[list[ScanFile], np.ndarray]) -> None:
        first = made[0][0]
        assert reader_for(first.name, first.head).name == self.kind
        if self.by_content:
            assert reader_for("scan.bin", first.head).name == self.kind
            assert reader_for("scan.png", first.head).name == self.kind

    def test_the_volume_inside_is_named(self, made: tuple[list[ScanFile], np.ndarray]) -> None:
        (inside,) = volumes_in(made[0], options=self.options)
        assert (inside.eye, inside.spacing_mm is None) == (self.eye, self.spacing is None)
        for number in (-1, 1):
            with pytest.raises(ScanError, match="volumes in the file"):
                self.read(made[0], number=number)

    def test_a_cut_file_is_refused_or_whole(self, made: tuple[list[ScanFile], np.ndarray]) -> None:
        files, voxels = made
        rng = random.Random(1)
        for _ in range(TRIES):
            place = rng.randrange(len(files))
            size = len(files[place].data)
            cut = rng.choice([0, 1, size - 1, size // 2, rng.randrange(size), rng.randrange(min(size, 600))])
            self.judge(
                [*files[:place], replace(files[place], data=files[place].data[:cut]), *files[place + 1 :]], voxels
            )

    def test_a_changed_byte_is_refused_or_does_no_harm(self, made: tuple[list[ScanFile], np.ndarray]) -> None:
        files, voxels = made
        rng = random.Random(2)
        for number in range(TRIES):
            place = rng.randrange(len(files))
            data = bytearray(files[place].data)
            at = rng.randrange(min(len(data), 400)) if number % 2 else rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
            self.judge(
                [*files[:place], replace(files[place], data=bytes(data)), *files[place + 1 :]], voxels, flipped=True
            )

    def judge(self, files: list[ScanFile], voxels: np.ndarray, *, flipped: bool = False) -> None:
        """Read damaged files: a refusal in one line, or the same voxels; a flip may pass where no checksum is."""
        try:
            volume = self.read(files)
        except ScanError as error:
            assert "\n" not in str(error)
            assert str(error).startswith("file")
            return
        if self.checked or not flipped:
            np.testing.assert_array_equal(volume.voxels, voxels)
