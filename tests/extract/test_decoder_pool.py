"""Decoders in processes of their own: equal to decoding here, and a hang or a crash is an error of one volume."""

import gc
import os
import signal
import time
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from dicom_files import compress, layered_volume, make_file
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

import extract.dicom.decoder_pool as pool_module
from embeddings_store.errors import RunError
from extract.dicom.decoder_pool import DecoderPool
from extract.dicom.frame_decoder import FrameDecoder, FrameError, FrameFormat, decode_here
from extract.dicom.reader import read_dicom
from extract.errors import DecoderCrash, DecodeTimeout, UndecodablePixels

SIZE = 32
FORM = FrameFormat(str(JPEGLSLossless), SIZE, SIZE, 8, signed=False)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    yield DecoderPool()
    gc.collect()


@pytest.fixture(scope="module")
def streams() -> list[bytes]:
    data = compress(layered_volume(4, SIZE, SIZE), JPEGLSLossless)
    return list(generate_frames(dcmread(BytesIO(data)).PixelData, number_of_frames=4))


def hang_after_one(pool: DecoderPool) -> FrameDecoder:
    """Stop the idle process behind its first frame: to the pool, a decoder that never ends."""

    def decode(streams: Iterable[bytes], form: FrameFormat) -> Iterator[np.ndarray]:
        process, frames = process_of(pool), pool(streams, form)
        yield next(frames)
        os.kill(process, signal.SIGSTOP)
        yield from frames

    return decode


def process_of(pool: DecoderPool) -> int:
    (process,) = pool._idle
    return process._process.pid


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_a_process_gives_what_decoding_here_gives(pool: DecoderPool, syntax: UID, dtype: str) -> None:
    data = compress(layered_volume(5, 32, 40, dtype), syntax)
    there, here = read_dicom(data, decode=pool), read_dicom(data, decode=decode_here)
    np.testing.assert_array_equal(there.voxels, here.voxels)
    assert there.voxels.dtype == here.voxels.dtype


def test_uncompressed_files_need_no_process() -> None:
    pool = DecoderPool()
    read_dicom(make_file(layered_volume()), decode=pool)
    assert pool._idle == []


def test_one_process_serves_volume_after_volume(pool: DecoderPool, streams: list[bytes]) -> None:
    list(pool(streams, FORM))
    first = process_of(pool)
    list(pool(streams, FORM))
    assert process_of(pool) == first


def test_a_refused_frame_leaves_the_process_in_use(pool: DecoderPool, streams: list[bytes]) -> None:
    list(pool(streams, FORM))
    first = process_of(pool)
    with pytest.raises(FrameError, match="cannot be decoded \\(it does not end with an end of image marker") as caught:
        list(pool([streams[0], bytes(40), streams[2]], FORM))
    assert caught.value.kind is UndecodablePixels
    np.testing.assert_array_equal(next(pool(streams[3:], FORM)), next(decode_here(streams[3:], FORM)))
    assert process_of(pool) == first


def test_a_hang_is_ended_while_other_threads_go_on(
    pool: DecoderPool, streams: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pool(streams, FORM))
    monkeypatch.setattr(pool_module, "FRAME_LIMIT_S", 0.5)
    seen: list[FrameError] = []

    def hang() -> None:
        try:
            list(hang_after_one(pool)(streams[:2], FORM))
        except FrameError as error:
            seen.append(error)

    thread = Thread(target=hang)
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert [error.kind for error in seen] == [DecodeTimeout]
    assert "within 0.5 s" in str(seen[0])
    assert turns > 20, "this thread could work while the decoder hung"
    assert pool._idle == []
    assert len(list(pool(streams, FORM))) == 4, "the next volume has a new process"


def test_a_volume_that_hangs_is_a_classed_error(
    pool: DecoderPool, streams: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(pool(streams, FORM))
    monkeypatch.setattr(pool_module, "FRAME_LIMIT_S", 0.3)
    data = compress(layered_volume(4, SIZE, SIZE), JPEGLSLossless)
    with pytest.raises(DecodeTimeout, match="file: frame 1 was not decoded within") as caught:
        read_dicom(data, decode=hang_after_one(pool))
    assert caught.value.stage == "decode"


def test_a_crash_is_an_error_of_the_volume(pool: DecoderPool, streams: list[bytes]) -> None:
    list(pool(streams, FORM))
    process = process_of(pool)
    frames = pool(streams, FORM)
    next(frames)
    os.kill(process, signal.SIGSEGV)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    with pytest.raises(FrameError, match=r"crashed its decoder \(signal 11\)") as caught:
        next(frames)
    assert caught.value.kind is DecoderCrash


def test_a_process_that_died_between_volumes_costs_nothing(pool: DecoderPool, streams: list[bytes]) -> None:
    list(pool(streams, FORM))
    process = process_of(pool)
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert len(list(pool(streams, FORM))) == 4


def test_no_process_outlives_its_pool(streams: list[bytes]) -> None:
    pool = DecoderPool()
    list(pool(streams, FORM))
    (process,) = pool._idle
    assert process.is_alive()
    del pool
    gc.collect()
    assert not process.is_alive()


def test_a_decoder_that_does_not_start_stops_the_run(monkeypatch: pytest.MonkeyPatch, streams: list[bytes]) -> None:
    monkeypatch.setattr(pool_module, "COMMAND", (pool_module.sys.executable, "-c", "raise SystemExit(7)"))
    with pytest.raises(RunError, match="does not start"):
        next(DecoderPool()(streams, FORM))


def test_a_decoder_knows_no_credentials(monkeypatch: pytest.MonkeyPatch, streams: list[bytes]) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    pool = DecoderPool()
    list(pool(streams, FORM))
    environment = Path(f"/proc/{process_of(pool)}/environ")
    if not environment.exists():
        pytest.skip("only Linux shows the environment of a process")
    assert b"verysecret" not in environment.read_bytes()
