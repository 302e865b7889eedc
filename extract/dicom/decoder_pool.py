"""Decoders in processes of their own: one that hangs or crashes ends a volume, not the run.

In-process nothing could be done about a hang: most decoders are C code that holds the interpreter's lock, so no other
thread would even run to notice it. That lock is also why processes decode on all cores, and threads on one.
"""

import os
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from selectors import EVENT_READ, DefaultSelector
from typing import cast

import numpy as np
from jaxtyping import Shaped

from embeddings_store.errors import RunError
from extract.dicom.decoder_pipe import DECODED, READY, receive, receive_frame, receive_words, send_stream
from extract.dicom.frame_decoder import FrameError, FrameFormat
from extract.errors import DecoderCrash, DecodeTimeout, UndecodablePixels

FRAME_LIMIT_S = 30.0  # three hundred times what JPEG 2000 needs for a frame of 992 x 512 on one core
START_LIMIT_S = 120.0
COMMAND = (sys.executable, "-P", "-m", "extract.dicom.decoder_process")


class DecoderPool:
    """A FrameDecoder; each volume has a process to itself while it is decoded, started when none is idle.

    A process that takes more than FRAME_LIMIT_S for a frame is killed. All of them end with the pool, at the latest
    with this process, as they read from its pipe.
    """

    def __init__(self) -> None:
        self._idle: list[_DecoderProcess] = []
        weakref.finalize(self, _end_all, self._idle)

    def __call__(self, streams: Iterable[bytes], form: FrameFormat) -> Iterator[Shaped[np.ndarray, "rows columns"]]:
        """Yield the samples of each stream.

        Raises: FrameError (UndecodablePixels, DecodeTimeout, DecoderCrash); RunError when no process can be started.
        """
        process = self._take()
        try:
            for stream in streams:
                yield process.decode(stream, form)
        finally:
            self._give_back(process)

    def _take(self) -> "_DecoderProcess":
        with suppress(IndexError):  # no lock: the garbage collector may give one back in the midst of this
            while not (process := self._idle.pop()).is_alive():
                process.end()
            return process
        return _DecoderProcess()

    def _give_back(self, process: "_DecoderProcess") -> None:
        if not process.is_alive():
            process.end()
            return
        self._idle.append(process)


class _DecoderProcess:
    """One process, which knows no credentials. Raises: RunError when it does not start."""

    def __init__(self) -> None:
        knows = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            COMMAND, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=knows
        )
        self._to, self._from = cast(FileIO, self._process.stdin), cast(FileIO, self._process.stdout)
        self._selector = DefaultSelector()
        self._selector.register(self._from, EVENT_READ)
        if not self._selector.select(START_LIMIT_S) or self._from.read(1) != READY:
            status = self.end()
            raise RunError(
                f"a decoder process does not start ({_describe_status(status)}); expected that "
                f"`{' '.join(COMMAND)}` runs"
            )

    def is_alive(self) -> bool:
        """Tell whether it can still be asked."""
        return self._process.poll() is None

    def decode(self, stream: bytes, form: FrameFormat) -> Shaped[np.ndarray, "rows columns"]:
        """Have one frame decoded. Raises: FrameError; after a hang or a crash the process is dead."""
        try:
            send_stream(self._to, stream, form)
            if not self._selector.select(FRAME_LIMIT_S):
                self.end()
                raise FrameError(DecodeTimeout, f"was not decoded within {FRAME_LIMIT_S:g} s; its decoder was ended")
            if bytes(receive(self._from, 1)) != DECODED:
                raise FrameError(UndecodablePixels, receive_words(self._from))
            return receive_frame(self._from, form)
        except (EOFError, OSError) as error:
            raise FrameError(DecoderCrash, f"crashed its decoder ({_describe_status(self.end())})") from error

    def end(self) -> int:
        """Kill it, and give its exit status."""
        self._selector.close()
        self._process.kill()
        self._to.close()
        self._from.close()
        return self._process.wait()


def _end_all(processes: list[_DecoderProcess]) -> None:
    for process in processes:
        process.end()


def _describe_status(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
