"""Compare decoders of compressed DICOM: what each makes of damaged streams, and how long a sound frame takes.

Prints a table by syntax and decoder: of the cut and zeroed streams and of those with one bit turned over, how many are
refused and how many come out wrong in silence; "chosen" is extract's. Decoders that are not installed are left out.

    export PYTHONPATH=.:tests:tests/extract
    python tests/benchmarks/decoders.py [--count 25]
"""

import argparse
import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from damaged_streams import DAMAGES, KINDS, Kind, form_of, frame_of

from extract.dicom.frame_decoder import decode_frame

LIMIT_S = 30
ROWS, COLUMNS = 496, 512
Decode = Callable[[bytes], Any]


def pillow(stream: bytes) -> Any:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(stream)))


def jpeg_ls(stream: bytes) -> Any:
    return import_module("jpeg_ls").decode(np.frombuffer(stream, np.uint8))


def gdcm(syntax: str, bits: int, rows: int, columns: int) -> Decode:
    """Decode with GDCM, which wants an image built around the stream."""
    lib: Any = import_module("gdcm")
    lib.Trace.SetError(False)

    def decode(stream: bytes) -> Any:
        fragment, fragments = lib.Fragment(), lib.SequenceOfFragments.New()
        fragment.SetByteStringValue(stream + bytes(len(stream) % 2))
        fragments.AddFragment(fragment)
        element, image = lib.DataElement(lib.Tag(0x7FE0, 0x10)), lib.Image()
        element.SetValue(fragments.__ref__())
        image.SetNumberOfDimensions(2)
        image.SetDimensions((columns, rows, 1))
        image.SetDataElement(element)
        grey = lib.PhotometricInterpretation.GetPIType("MONOCHROME2")
        image.SetPhotometricInterpretation(lib.PhotometricInterpretation(grey))
        image.SetTransferSyntax(lib.TransferSyntax(lib.TransferSyntax.GetTSType(syntax)))
        image.SetPixelFormat(lib.PixelFormat(1, 8 if bits == 8 else 16, bits, bits - 1, 0))
        samples = image.GetBuffer().encode("utf-8", "surrogateescape")
        return np.frombuffer(samples, "u1" if bits == 8 else "u2").reshape(rows, columns)

    return decode


def rivals(name: str, kind: Kind, rows: int, columns: int) -> Iterator[tuple[str, Decode]]:
    """Give the decoders of a syntax that are installed."""
    found: list[tuple[str, Callable[[], Decode]]] = [("gdcm", lambda: gdcm(str(kind[0]), kind[1], rows, columns))]
    if name.startswith("JPEG") and "2000" not in name and "LS" not in name:
        found += [("imagecodecs", lambda: import_module("imagecodecs").jpeg8_decode)]
        found += [("jpegsof3", lambda: import_module("imagecodecs").jpegsof3_decode)] if "lossless" in name else []
        found += [("pylibjpeg-libjpeg", lambda: import_module("libjpeg").decode), ("Pillow", lambda: pillow)]
    elif "LS" in name:
        found += [("pyjpegls", lambda: jpeg_ls), ("imagecodecs", lambda: import_module("imagecodecs").jpegls_decode)]
        found += [("pylibjpeg-libjpeg", lambda: import_module("libjpeg").decode)]
    elif name != "RLE":
        found += [("pylibjpeg-openjpeg", lambda: import_module("openjpeg").decode)]
        found += [("imagecodecs", lambda: import_module("imagecodecs").jpeg2k_decode)]
        found += [("openjph", lambda: import_module("imagecodecs").htj2k_decode)] if "HT" in name else []
    for decoder, make in found:
        try:
            yield decoder, make()
        except ImportError:
            continue


def judge(decode: Decode, kind: Kind, count: int) -> dict[str, Any]:
    """Count refused, equal and wrong of each damage. A frame of another shape or type is refused by whoever asked."""
    frame = frame_of(kind[1])
    stream = kind[2](frame)
    truth = np.asarray(decode(stream))
    counts: dict[str, Any] = {}
    for damage, make in DAMAGES.items():
        tally = counts.setdefault(damage, [0, 0, 0])
        for damaged in make(stream, count):
            try:
                found = np.asarray(decode(damaged))
            except BaseException:  # noqa: BLE001 - a panic of a decoder is none of Exception
                tally[0] += 1
                continue
            same = found.shape == truth.shape and found.dtype == truth.dtype
            tally[0 if not same else 1 if (found == truth).all() else 2] += 1
    return counts


def time_frame(decode: Decode, kind: Kind) -> float:
    """Give the milliseconds of the processor that one whole frame takes, the best of five."""
    stream = kind[2](frame_of(kind[1], ROWS, COLUMNS))
    seconds = []
    for _ in range(5):
        start = time.process_time()
        decode(stream)
        seconds.append(time.process_time() - start)
    return 1000 * min(seconds)


def apart(work: Callable[[], Any]) -> Any:
    """Do it in a process of its own, as decoders crash and hang; what ended it instead of a result."""
    inward, outward = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(LIMIT_S)
        try:
            os.write(outward, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(outward)
    with os.fdopen(inward) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else f"ended by signal {status}" if status else "refuses sound streams"


def chosen(kind: Kind, rows: int, columns: int) -> Decode:
    form = form_of(kind, np.empty((rows, columns), "u1" if kind[1] == 8 else "u2"))
    return lambda stream: decode_frame(stream, form)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=25)
    count: int = parser.parse_args().count
    print("| syntax | decoder | cut: refused, wrong | zeroed: refused, wrong | flipped: refused, equal, wrong | ms |")
    print("|---|---|---|---|---|---|")
    for name, kind in KINDS.items():
        small, large = frame_of(kind[1]).shape, (ROWS, COLUMNS)
        pairs = zip(rivals(name, kind, *small), rivals(name, kind, *large), strict=True)
        one = [(label, decode, full) for (label, decode), (_, full) in pairs]
        for label, decode, full in [("**chosen**", chosen(kind, *small), chosen(kind, *large)), *one]:
            counts = apart(partial(judge, decode, kind, count))
            if isinstance(counts, str):
                print(f"| {name} | {label} | {counts} | | | |", flush=True)
                continue
            cut, zeroed, flip = (counts[damage] for damage in DAMAGES)
            took = apart(partial(time_frame, full, kind))
            words = f"{took:.1f}" if isinstance(took, float) else took
            cells = (f"{cut[0]}, {cut[2]}", f"{zeroed[0]}, {zeroed[2]}", f"{flip[0]}, {flip[1]}, {flip[2]}")
            print(f"| {name} | {label} | {' | '.join(cells)} | {words} |", flush=True)


if __name__ == "__main__":
    main()
