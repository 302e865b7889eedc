"""The other side of DecoderPool: a process that decodes frames until nobody asks any more."""

import io
import os
import resource
import signal
from pathlib import Path
from typing import Final

from extract.dicom.decoder_pipe import DECODED, READY, REFUSED, receive_stream, send, send_words
from extract.dicom.frame_decoder import FrameError, decode_frame

ALLOCATION_LIMIT_BYTES: Final = 2 << 30  # a frame is about a megabyte: what asks for more is damaged or hostile
STATM: Final = Path("/proc/self/statm")


def main() -> None:
    """Serve standard input; what a decoder prints itself goes nowhere."""
    for number in (signal.SIGINT, signal.SIGTERM):  # for the parent, though all get them; its end closes the pipe
        signal.signal(number, signal.SIG_IGN)
    inward, outward = (io.FileIO(os.dup(number), mode) for number, mode in ((0, "r"), (1, "w")))
    os.dup2(2, 1)
    _limit_memory()
    send(outward, READY)
    while (asked := receive_stream(inward)) is not None:
        try:
            frame = decode_frame(*asked)
        except (FrameError, MemoryError) as error:
            send(outward, REFUSED)
            send_words(outward, str(error) if isinstance(error, FrameError) else "cannot be decoded (out of memory)")
        else:
            send(outward, DECODED)
            send(outward, frame.tobytes())


def _limit_memory() -> None:
    if STATM.exists():
        used = int(STATM.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ALLOCATION_LIMIT_BYTES,) * 2)


if __name__ == "__main__":
    main()
