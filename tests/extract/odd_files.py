"""Sound volumes written in the odd ways of the world, each in several syntaxes and bit depths, with the true array."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import imagecodecs
import jpeg_ls
import numpy as np
from damaged_streams import encode_rle, high_throughput, jpeg
from dicom_files import layered_volume, make_dataset, make_encapsulated, make_file, to_bytes
from lossless_jpeg import encode_lossless
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from extract.dicom.frame_decoder import COMPRESSED
from extract.phantom.dicom_file import NATIVE

FRAMES, ROWS, COLUMNS = 12, 32, 40
META_LENGTH = struct.pack("<HH2sH", 2, 0, b"UL", 4)
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0" + bytes(4)
Encode = Callable[[np.ndarray, int], bytes]
LOSSLESS: dict[str, tuple[UID, Encode]] = {
    "rle": (COMPRESSED["RLE"], lambda frame, _: encode_rle(frame)),
    "jls": (COMPRESSED["JPEG-LS"], lambda frame, bits: bytes(imagecodecs.jpegls_encode(frame, 0))),
    "j2k": (
        COMPRESSED["JPEG 2000 lossless"],
        lambda frame, bits: bytes(encode_array(frame, bits, photometric_interpretation=2)),
    ),
    "jll": (
        COMPRESSED["JPEG lossless SV1"],
        lambda frame, bits: encode_lossless(frame.view(f"u{frame.itemsize}"), bits),
    ),
    "htj2k": (COMPRESSED["HTJ2K lossless"], lambda frame, _: high_throughput(True)(frame)),
}


@dataclass(frozen=True)
class Odd:
    """A file, the array that is meant, and its slope and intercept; error: how far lossy samples may lie from it."""

    name: str
    data: bytes
    truth: np.ndarray
    error: int = 0
    rescale: tuple[float, float] = (1.0, 0.0)


def volume(bits: int, signed: bool = False, rows: int = ROWS, columns: int = COLUMNS) -> Any:
    wide = layered_volume(FRAMES, rows, columns, "int16" if signed else "uint16")
    return (wide >> 16 - bits).astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def bits_of(bits: int) -> dict[str, int]:
    return {"BitsStored": bits, "HighBit": bits - 1}


def native(syntax: UID, voxels: Any, **elements: Any) -> bytes:
    data = make_file(voxels, ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax, **elements)
    return deflated(data) if syntax == DeflatedExplicitVRLittleEndian else data


def deflated(data: bytes) -> bytes:
    """Write an explicit file again, its data set deflated."""
    length = struct.unpack_from("<L", data, 140)[0]
    start, old = 144 + length, b"1.2.840.10008.1.2.1\0"
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    meta = data[144:start].replace(struct.pack("<H", len(old)) + old, b"\x16\x001.2.840.10008.1.2.1.99")
    body = packer.compress(data[start:]) + packer.flush()
    return data[:140] + struct.pack("<L", len(meta)) + meta + body + bytes(len(body) % 2)


def packed(kind: str, bits: int, signed: bool = False) -> tuple[UID, list[bytes], Any]:
    syntax, encode = LOSSLESS[kind]
    voxels = volume(bits, signed)
    return syntax, [encode(frame, bits) for frame in voxels], voxels


def with_items(streams: list[bytes], like: Any, syntax: UID, value: bytes, **elements: Any) -> bytes:
    """A file whose PixelData is of undefined length and holds these bytes."""
    sound = make_encapsulated(streams, like, syntax, offset_table=False, **elements)
    return sound[: sound.index(ITEM + bytes(4))] + value


def item(value: bytes) -> bytes:
    return ITEM + struct.pack("<L", len(value)) + value


def even(stream: bytes) -> bytes:
    return stream + bytes(len(stream) % 2)


def sound_files() -> Iterator[Odd]:
    """Every syntax, 8, 12 and 16 bits, signed and not."""
    for bits, signed in ((8, False), (12, False), (16, False), (8, True), (12, True), (16, True)):
        words = f"{bits}{'s' if signed else 'u'}"
        voxels = volume(bits, signed)
        for syntax in NATIVE.values():
            yield Odd(f"{syntax.name} {words}", native(syntax, voxels, **bits_of(bits)), voxels)
        for kind in LOSSLESS:
            if signed and kind in {"htj2k", "jls", "jll"}:
                continue
            syntax, streams, _ = packed(kind, bits, signed)
            yield Odd(f"{kind} {words}", make_encapsulated(streams, voxels, syntax, **bits_of(bits)), voxels)
        if signed:
            for kind in ("jls", "jll"):
                syntax, encode = LOSSLESS[kind]
                stored = voxels.view(f"u{voxels.itemsize}") & (1 << bits) - 1
                streams = [encode(frame, bits) for frame in stored]
                yield Odd(f"{kind} {words} masked", make_encapsulated(streams, voxels, syntax, **bits_of(bits)), voxels)


def header_faults() -> Iterator[Odd]:
    """The file meta group's length, explicit and implicit exchanged, elements twice or out of place."""
    cases = [(syntax.name, native(syntax, volume(12), **bits_of(12)), volume(12)) for syntax in NATIVE.values()]
    for kind in ("rle", "jls", "j2k"):
        syntax, streams, voxels = packed(kind, 8)
        cases.append((kind, make_encapsulated(streams, voxels, syntax), voxels))
    for name, data, voxels in cases:
        length = struct.unpack_from("<L", data, 140)[0]
        for change in (-40, -2, 2, 10, 5000, -length, 0xFFFFFFFF - length):
            wrong = data[:140] + struct.pack("<L", length + change) + data[144:]
            yield Odd(f"meta length {change:+d}, {name}", wrong, voxels)
        yield Odd(f"no meta length, {name}", data[:132] + data[144:], voxels)
        yield Odd(f"no preamble, {name}", data[132:], voxels)
        yield Odd(f"no preamble, DICM first, {name}", data[128:], voxels)
        yield Odd(f"trailing bytes, {name}", data + bytes(100), voxels)
        yield Odd(f"trailing noise, {name}", data + bytes(range(1, 101)), voxels)
        yield Odd(
            f"data set trailing padding, {name}",
            data + b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<L", 20) + bytes(20),
            voxels,
        )
    for said, is_said in (
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ExplicitVRBigEndian, ExplicitVRLittleEndian),
        (ExplicitVRBigEndian, ImplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ExplicitVRBigEndian),
        (ImplicitVRLittleEndian, ExplicitVRBigEndian),
    ):
        for bits in (8, 12, 16):
            data = native(is_said, volume(bits), **bits_of(bits))
            yield Odd(f"says {said.name}, is {is_said.name}, {bits}", exchange(data, is_said, said), volume(bits))
    for kind in LOSSLESS:
        syntax, streams, voxels = packed(kind, 8)
        plain = native(ImplicitVRLittleEndian, voxels)
        pixels = plain.rindex(struct.pack("<HH", 0x7FE0, 0x10))
        items = b"".join(map(item, [b"", *map(even, streams)])) + DELIMITER
        implicit = plain[:pixels] + struct.pack("<HHL", 0x7FE0, 0x10, 0xFFFFFFFF) + items
        yield Odd(f"says {kind}, is implicit", exchange(implicit, ImplicitVRLittleEndian, syntax), voxels)


def exchange(data: bytes, old: UID, new: UID) -> bytes:
    """Write another transfer syntax into the file meta group."""
    was, told = even(str(old).encode()), even(str(new).encode())
    place = data.index(b"UI" + struct.pack("<H", len(was)) + was)
    length = struct.unpack_from("<L", data, 140)[0] + len(told) - len(was)
    changed = data[:place] + b"UI" + struct.pack("<H", len(told)) + told + data[place + 4 + len(was) :]
    return changed[:140] + struct.pack("<L", length) + changed[144:]


def sample_layouts() -> Iterator[Odd]:
    """HighBit, PixelRepresentation, padding values, planes, rescales and bits above BitsStored."""
    for syntax in NATIVE.values():
        name, wide = syntax.name, volume(12)
        yield Odd(f"HighBit 15, {name}", native(syntax, wide << 4, BitsStored=12, HighBit=15), wide)
        yield Odd(f"HighBit 13, {name}", native(syntax, wide << 2, BitsStored=12, HighBit=13), wide)
        yield Odd(f"HighBit 11 but shifted, {name}", native(syntax, wide << 4, BitsStored=12, HighBit=11), wide)
        yield Odd(f"HighBit 7 of 12, {name}", native(syntax, wide, BitsStored=12, HighBit=7), wide)
        yield Odd(f"HighBit missing, {name}", native(syntax, wide, BitsStored=12, HighBit=None), wide)
        yield Odd(
            f"HighBit 15 of 8 in 16, {name}", native(syntax, wide << 4 & 0xFF00, BitsStored=8, HighBit=15), wide >> 4
        )
        overlay = (wide | 0x8000).astype("u2")
        yield Odd(f"bits above, {name}", native(syntax, overlay, **bits_of(12)), wide)
        yield Odd(f"BitsStored 8 of real 12, {name}", native(syntax, wide, **bits_of(8)), wide)
        yield Odd(f"BitsStored missing, {name}", native(syntax, wide, BitsStored=None), wide)
        narrow = volume(8)
        yield Odd(f"8 bits in 16, {name}", native(syntax, narrow.astype("u2"), **bits_of(8)), narrow)
        signed = volume(12, True)
        yield Odd(f"12-bit signed, HighBit 15, {name}", native(syntax, signed << 4, BitsStored=12, HighBit=15), signed)
        masked = (signed.view("u2") & 0xFFF).view("i2")
        yield Odd(f"12-bit signed, not extended, {name}", native(syntax, masked, **bits_of(12)), signed)
        yield Odd(f"padding value, {name}", native(syntax, narrow, PixelPaddingValue=0), narrow)
        yield Odd(
            f"padding value signed, {name}", native(syntax, signed, PixelPaddingValue=-2048, **bits_of(12)), signed
        )
        yield Odd(
            f"window only, {name}", native(syntax, wide, WindowCenter="100", WindowWidth="50", **bits_of(12)), wide
        )
        yield Odd(f"odd frames, {name}", native(syntax, volume(8, rows=23, columns=29)), volume(8, rows=23, columns=29))
        yield Odd(f"planar 1 of grey, {name}", native(syntax, narrow, PlanarConfiguration=1), narrow)
        yield Odd(f"Rows and Columns swapped, {name}", native(syntax, narrow, Rows=COLUMNS, Columns=ROWS), narrow)
    for kind in LOSSLESS:
        for bits in (8, 12, 16):
            syntax, streams, voxels = packed(kind, bits)
            put = partial(make_encapsulated, streams, voxels, syntax)
            yield Odd(
                f"Rows and Columns swapped, {kind} {bits}", put(Rows=COLUMNS, Columns=ROWS, **bits_of(bits)), voxels
            )
            yield Odd(f"Rows too few, {kind} {bits}", put(Rows=ROWS - 1, **bits_of(bits)), voxels)
            yield Odd(f"Columns too many, {kind} {bits}", put(Columns=COLUMNS + 1, **bits_of(bits)), voxels)
            yield Odd(f"signed by mistake, {kind} {bits}", put(PixelRepresentation=1, **bits_of(bits)), voxels)
            yield Odd(f"HighBit missing, {kind} {bits}", put(BitsStored=bits, HighBit=None), voxels)
            if bits == 12:
                yield Odd(f"HighBit 15, {kind}", put(BitsStored=12, HighBit=15), voxels)
                yield Odd(f"BitsStored 16, {kind}", put(**bits_of(16)), voxels)
                yield Odd(f"BitsStored 8, {kind}", put(**bits_of(8)), voxels)
                yield Odd(f"BitsAllocated 8, {kind}", put(BitsAllocated=8, **bits_of(8)), voxels)
            if bits == 8:
                yield Odd(f"BitsAllocated 16, {kind}", put(BitsAllocated=16, **bits_of(8)), voxels)
                yield Odd(f"BitsAllocated 16, stored 16, {kind}", put(BitsAllocated=16, **bits_of(16)), voxels)
            elif kind != "htj2k":
                high = (voxels << 4).astype("u2") if bits == 12 else voxels
                shifted = [LOSSLESS[kind][1](frame, 16) for frame in high]
                if bits == 12:
                    yield Odd(
                        f"HighBit 15 and shifted, {kind}",
                        make_encapsulated(shifted, voxels, syntax, BitsStored=12, HighBit=15),
                        voxels,
                    )
                    yield Odd(
                        f"HighBit 11 but shifted, {kind}",
                        make_encapsulated(shifted, voxels, syntax, **bits_of(12)),
                        voxels,
                    )
        signed = volume(12, True)
        if kind == "j2k":
            streams = [LOSSLESS[kind][1](frame, 12) for frame in signed]
            yield Odd(
                "signed stream, header unsigned, j2k",
                make_encapsulated(streams, signed, LOSSLESS[kind][0], PixelRepresentation=0, **bits_of(12)),
                signed,
            )
            streams = [LOSSLESS[kind][1](frame, 16) for frame in signed]
            yield Odd(
                "signed 16-bit stream of 12 bits, j2k",
                make_encapsulated(streams, signed, LOSSLESS[kind][0], **bits_of(12)),
                signed,
            )


def numbers_of_frames() -> Iterator[Odd]:
    """NumberOfFrames as people write it."""
    for kind in ("native", "implicit", "rle", "jls", "j2k", "jll"):
        for bits in (8, 12):
            if kind in ("native", "implicit"):
                voxels = volume(bits)
                data = native(
                    ExplicitVRLittleEndian if kind == "native" else ImplicitVRLittleEndian, voxels, **bits_of(bits)
                )
            else:
                syntax, streams, voxels = packed(kind, bits)
                data = make_encapsulated(streams, voxels, syntax, **bits_of(bits))
            head = struct.pack("<HH", 0x28, 8)
            old = head + (struct.pack("<L", 2) if kind == "implicit" else b"IS" + struct.pack("<H", 2)) + b"12"
            assert data.count(old) == 1
            for value in (
                b"12  ",
                b" 12 ",
                b"12\0\0",
                b"+12 ",
                b"012 ",
                b"12.0",
                b"12.5",
                b"1e1 ",
                b"12\\12 ",
                b"0 ",
                b"-1",
                b"",
                b"6 ",
                b"13",
                b"24",
                b"abcd",
                b"1 ",
                b"3 ",
            ):
                size = struct.pack("<L" if kind == "implicit" else "<H", len(value))
                new = head + (b"" if kind == "implicit" else b"IS") + size + value
                yield Odd(f"NumberOfFrames {value!r}, {kind} {bits}", data.replace(old, new), voxels)
            yield Odd(f"NumberOfFrames missing, {kind} {bits}", data.replace(old, b""), voxels)
            yield Odd(
                f"NumberOfFrames twice, {kind} {bits}", data.replace(old, old + old.replace(b"12", b"6 ")), voxels
            )
            yield Odd(
                f"NumberOfFrames twice, first 6, {kind} {bits}",
                data.replace(old, old.replace(b"12", b"6 ") + old),
                voxels,
            )


def item_chains() -> Iterator[Odd]:
    """Fragments, offset tables, delimiters and padding."""
    for kind in LOSSLESS:
        for bits in (8, 12):
            syntax, streams, voxels = packed(kind, bits)
            whole = list(map(even, streams))
            halves = [[s[: len(s) // 4 * 2], s[len(s) // 4 * 2 :]] for s in whole]
            parts = [part for pair in halves for part in pair]
            starts = np.cumsum([0, *(8 + len(s) for s in whole)])[:-1]
            of_parts = np.cumsum([0, *(8 + len(s) for s in parts)])[:-1]
            table = starts.astype("<u4").tobytes()
            first_of = of_parts[::2].astype("<u4").tobytes()
            body, split = b"".join(map(item, whole)), b"".join(map(item, parts))
            chains = {
                "empty table": item(b"") + body + DELIMITER,
                "table": item(table) + body + DELIMITER,
                "split, empty table": item(b"") + split + DELIMITER,
                "split, table": item(first_of) + split + DELIMITER,
                "split, table of parts": item(of_parts.astype("<u4").tobytes()) + split + DELIMITER,
                "split, table of first half": item(of_parts[:12].astype("<u4").tobytes()) + split + DELIMITER,
                "table of zeros": item(bytes(48)) + body + DELIMITER,
                "table from the pixel data on": item((starts + 8 + 48).astype("<u4").tobytes()) + body + DELIMITER,
                "table shifted by 8": item((starts + 8).astype("<u4").tobytes()) + body + DELIMITER,
                "table big-endian": item(starts.astype(">u4").tobytes()) + body + DELIMITER,
                "table with one entry": item(bytes(4)) + body + DELIMITER,
                "table backwards": item(table[::-1]) + body + DELIMITER,
                "table of two frames exchanged": item(np.r_[starts[1], starts[0], starts[2:]].astype("<u4").tobytes())
                + body
                + DELIMITER,
                "table too short": item(table[:44]) + body + DELIMITER,
                "table too long": item(table + struct.pack("<L", len(body))) + body + DELIMITER,
                "table with odd length": item(table + b"\0\0") + body + DELIMITER,
                "no table item": body + DELIMITER,
                "no delimiter": item(b"") + body,
                "NULs instead": item(b"") + body + bytes(8),
                "delimiter with a length": item(b"") + body + DELIMITER[:4] + b"\x08\0\0\0" + bytes(8),
                "item delimiter first": item(b"") + body + b"\xfe\xff\x0d\xe0" + bytes(4) + DELIMITER,
                "one item of all": item(b"") + item(b"".join(whole)) + DELIMITER,
                "two frames in one": item(b"") + item(whole[0] + whole[1]) + b"".join(map(item, whole[2:])) + DELIMITER,
                "empty items between": item(b"") + b"".join(item(s) + item(b"") for s in whole) + DELIMITER,
                "empty items before": item(b"") + b"".join(item(b"") + item(s) for s in whole) + DELIMITER,
                "padded items": item(b"") + b"".join(item(s + bytes(30)) for s in whole) + DELIMITER,
                "items with FF": item(b"") + b"".join(item(s + b"\xff" * 2) for s in whole) + DELIMITER,
                "odd items": item(b"") + b"".join(map(item, streams)) + DELIMITER,
                "tail in the next item": item(b"") + b"".join(item(p) for p in shifted_ends(whole)) + DELIMITER,
                "uneven split": item(b"") + b"".join(map(item, [*halves[0], *whole[1:]])) + DELIMITER,
                "thirteen frames": item(b"") + body + item(whole[0]) + DELIMITER,
                "padding item": item(b"") + body + item(bytes(64)) + DELIMITER,
                "a frame twice in place of the next": item(b"")
                + b"".join(map(item, [whole[0], whole[0], *whole[2:]]))
                + DELIMITER,
                "eleven frames": item(b"") + b"".join(map(item, whole[:11])) + DELIMITER,
                "an empty frame": item(b"") + b"".join(map(item, [*whole[:5], b"", *whole[6:]])) + DELIMITER,
                "an empty frame with table": item(
                    np.cumsum([0, *(8 + len(s) for s in [*whole[:5], b"", *whole[6:]])])[:-1].astype("<u4").tobytes()
                )
                + b"".join(map(item, [*whole[:5], b"", *whole[6:]]))
                + DELIMITER,
                "delimiter after six": item(b"")
                + b"".join(map(item, whole[:6]))
                + DELIMITER
                + b"".join(map(item, whole[6:]))
                + DELIMITER,
            }
            for name, chain in chains.items():
                meant = voxels
                yield Odd(f"{name}, {kind} {bits}", with_items(streams, voxels, syntax, chain, **bits_of(bits)), meant)
            lengths = np.array([len(s) for s in whole])
            for name, offsets, sizes in (
                ("right", starts, lengths),
                ("offsets of zeros", starts * 0, lengths),
                ("offsets from elsewhere", starts + 8, lengths),
                ("offsets exchanged", np.r_[starts[1], starts[0], starts[2:]], lengths),
                ("lengths of odd streams", starts, np.array([len(s) for s in streams])),
                ("lengths of zeros", starts, lengths * 0),
                ("lengths too long", starts, lengths + 1000),
                ("lengths too short", starts, lengths // 2),
                ("too few", starts[:6], lengths[:6]),
            ):
                more = {
                    "ExtendedOffsetTable": offsets.astype("<u8").tobytes(),
                    "ExtendedOffsetTableLengths": sizes.astype("<u8").tobytes(),
                }
                yield Odd(
                    f"extended table {name}, {kind} {bits}",
                    with_items(streams, voxels, syntax, item(b"") + body + DELIMITER, **bits_of(bits), **more),
                    voxels,
                )
            more = {
                "ExtendedOffsetTable": starts.astype("<u8").tobytes(),
                "ExtendedOffsetTableLengths": lengths.astype("<u8").tobytes(),
            }
            yield Odd(
                f"both tables, {kind} {bits}",
                with_items(streams, voxels, syntax, item(table) + body + DELIMITER, **bits_of(bits), **more),
                voxels,
            )
            defined = with_items(streams, voxels, syntax, item(b"") + body + DELIMITER, **bits_of(bits))
            place = defined.index(item(b""))
            for name, length in (
                ("defined", len(defined) - place),
                ("defined, too long", len(defined) - place + 100),
                ("defined, too short", len(defined) - place - 100),
                ("defined, zero", 0),
            ):
                yield Odd(
                    f"{name} length, {kind} {bits}",
                    defined[: place - 4] + struct.pack("<L", length) + defined[place:],
                    voxels,
                )


def shifted_ends(whole: list[bytes]) -> list[bytes]:
    """Split the frames so that the last two bytes of each begin the next fragment's item."""
    parts = [whole[0][:-2]]
    for before, after in pairwise(whole):
        parts += [before[-2:], after[:-2]]
    return [*parts, whole[-1][-2:]]


def native_lengths() -> Iterator[Odd]:
    """PixelData longer or shorter than the frames."""
    for syntax in NATIVE.values():
        if syntax == DeflatedExplicitVRLittleEndian:
            continue
        for bits, shape in ((8, (ROWS, COLUMNS)), (16, (ROWS, COLUMNS)), (8, (23, 29))):
            voxels = volume(bits, rows=shape[0], columns=shape[1])
            size = voxels[0].nbytes
            order = ">" if syntax == ExplicitVRBigEndian else "<"
            plain = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()
            rows = [plain[n * size : (n + 1) * size] for n in range(FRAMES)]
            values = {
                "one byte more": plain + b"\0",
                "12 bytes more": plain + bytes(12),
                "12 noise bytes more": plain + bytes(range(12)),
                "a pad a frame": b"".join(row + b"\0" for row in rows),
                "two pads a frame": b"".join(row + b"\0\0" for row in rows),
                "pads of noise": b"".join(row + bytes([1 + n]) for n, row in enumerate(rows)),
                "a frame of zeros": plain + bytes(size),
                "a frame of FF": plain + b"\xff" * size,
                "half a frame": plain + rows[0][: size // 2],
                "two frames more": plain + rows[0] + rows[1],
                "two bytes less": plain[:-2],
                "one frame less": plain[:-size],
                "16 bytes before": bytes(16) + plain,
            }
            for name, value in values.items():
                yield Odd(f"{name}, {syntax.name} {bits} {shape}", native(syntax, voxels, PixelData=value), voxels)
            for name, change in (("declares more", 50), ("declares less", -50), ("declares zero", None)):
                data = native(syntax, voxels)
                place = len(data) - len(plain) - len(plain) % 2 - 4
                kind = ">L" if syntax == ExplicitVRBigEndian else "<L"
                length = 0 if change is None else struct.unpack_from(kind, data, place)[0] + change
                yield Odd(
                    f"length {name}, {syntax.name} {bits} {shape}",
                    data[:place] + struct.pack(kind, length) + data[place + 4 :],
                    voxels,
                )
            if syntax != ExplicitVRBigEndian:
                data = native(syntax, voxels)
                place = len(data) - len(plain) - len(plain) % 2 - 4
                yield Odd(
                    f"undefined length without items, {syntax.name} {bits} {shape}",
                    data[:place] + b"\xff" * 4 + data[place + 4 :],
                    voxels,
                )
                items = item(b"") + b"".join(map(item, map(even, rows))) + DELIMITER
                yield Odd(
                    f"undefined length, plain in items, {syntax.name} {bits} {shape}",
                    data[:place] + b"\xff" * 4 + items,
                    voxels,
                )


def native_kinds() -> Iterator[Odd]:
    """Samples in elements of other kinds and widths."""
    for bits in (8, 16):
        for written in ("OB", "OW", "UN"):
            for syntax in (ExplicitVRLittleEndian, *([ExplicitVRBigEndian] if bits == 16 or written == "OB" else [])):
                dataset = make_dataset(volume(bits), syntax)
                dataset["PixelData"].VR = written
                yield Odd(f"{written} of {bits} bits, {syntax.name}", to_bytes(dataset), volume(bits))
    for keyword, kind in (("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")):
        dataset = make_dataset(volume(16))
        del dataset.PixelData
        setattr(dataset, keyword, volume(16).astype(kind).tobytes())
        yield Odd(keyword, to_bytes(dataset), volume(16))
        dataset.PixelData = volume(16).tobytes()
        dataset["PixelData"].VR = "OW"
        yield Odd(f"{keyword} and PixelData", to_bytes(dataset), volume(16))
    for bits in (1, 32, 64, 24, 10, 12):
        yield Odd(
            f"BitsAllocated {bits}", make_file(volume(16), BitsAllocated=bits, **bits_of(min(bits, 16))), volume(16)
        )


def colours() -> Iterator[Odd]:
    """Grey stored in colour, and colour that is none."""
    grey = volume(8)
    for photometric in (
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_ICT",
        "YBR_RCT",
        "PALETTE COLOR",
        "MONOCHROME1",
        "monochrome2 ",
        "MONOCHROME",
        "ARGB",
        "",
    ):
        for samples in (1, 3):
            for planar in (0, 1) if samples == 3 else (0,):
                pixels = (
                    grey
                    if samples == 1
                    else np.repeat(grey[..., None], 3, axis=3)
                    if not planar
                    else np.repeat(grey[:, None], 3, axis=1)
                )
                elements = {
                    "PhotometricInterpretation": photometric,
                    "SamplesPerPixel": samples,
                    "PlanarConfiguration": planar,
                    "PixelData": pixels.tobytes(),
                }
                yield Odd(
                    f"{photometric or 'no'} photometric of {samples}, planar {planar}",
                    make_file(grey, **elements),
                    grey,
                )
    interleaved = np.repeat(grey[..., None], 3, axis=3)
    yield Odd(
        "RGB, planar missing",
        make_file(grey, PhotometricInterpretation="RGB", SamplesPerPixel=3, PixelData=interleaved.tobytes()),
        grey,
    )
    yield Odd(
        "RGB, planar wrong",
        make_file(
            grey,
            PhotometricInterpretation="RGB",
            SamplesPerPixel=3,
            PlanarConfiguration=1,
            PixelData=interleaved.tobytes(),
        ),
        grey,
    )
    yield Odd("SamplesPerPixel missing", make_file(grey, SamplesPerPixel=None), grey)


def rescales() -> Iterator[Odd]:
    """Slope and intercept, some of them malformed: those mean what no number tells."""
    nothing = (np.nan, np.nan)
    for syntax in NATIVE.values():
        for slope, intercept, meant in (
            ("2.5", "-300", (2.5, -300.0)),
            ("1e-3", "0", (0.001, 0.0)),
            ("-1", "4095", (-1.0, 4095.0)),
            ("", "", (1.0, 0.0)),
            ("nan", "0", nothing),
            ("1", "inf", nothing),
            ("2,5", "0", nothing),
            ("2\\3", "0", nothing),
            ("1", "abc", nothing),
        ):
            plain = ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax
            dataset = make_dataset(volume(12), plain, **bits_of(12))
            dataset.add_new(0x00281052, "LO", intercept)  # pydicom would refuse to write them as what they are
            dataset.add_new(0x00281053, "LO", slope)
            data = to_bytes(dataset)
            for tag in (b"\x28\x00\x52\x10", b"\x28\x00\x53\x10", b"\x00\x28\x10\x52", b"\x00\x28\x10\x53"):
                data = data.replace(tag + b"LO", tag + b"DS")
            data = deflated(data) if plain != syntax else data
            yield Odd(f"rescale {slope} {intercept}, {syntax.name}", data, volume(12), rescale=meant)


def pillow(frame: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def jpegs() -> Iterator[Odd]:
    """JPEG in its kinds, under the right syntax and under others."""
    grey, wide = volume(8), volume(12)
    many: dict[str, tuple[Callable[[np.ndarray], bytes], int]] = {
        "baseline": (pillow, 12),
        "progressive": (lambda f: pillow(f, progressive=True), 12),
        "restarts by row": (lambda f: pillow(f, restart_marker_rows=1), 12),
        "restarts by block": (lambda f: pillow(f, restart_marker_blocks=2), 12),
        "restarts by three blocks": (lambda f: pillow(f, restart_marker_blocks=3), 12),
        "optimised": (lambda f: pillow(f, optimize=True), 12),
        "arithmetic": (lambda f: pillow(f).replace(b"\xff\xc0", b"\xff\xc9", 1), 12),
        "colour": (lambda f: pillow(np.repeat(f[..., None], 3, axis=2)), 12),
        "no end": (lambda f: pillow(f)[:-2], 12),
        "no end, padded": (lambda f: pillow(f)[:-2] + bytes(6), 12),
        "end twice": (lambda f: pillow(f) + b"\xff\xd9", 12),
        "start twice": (lambda f: b"\xff\xd8" + pillow(f), 12),
        "a comment": (lambda f: pillow(f, comment=b"\xff\xd9\xff\xda" * 5), 12),
        "a thumbnail": (
            lambda f: (
                pillow(f)[:2]
                + b"\xff\xe1"
                + struct.pack(">H", 2 + len(pillow(f[::2, ::2])))
                + pillow(f[::2, ::2])
                + pillow(f)[2:]
            ),
            12,
        ),
        "fill bytes": (lambda f: pillow(f).replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1), 12),
        "restart interval without markers": (
            lambda f: pillow(f).replace(b"\xff\xda", b"\xff\xdd\0\x04\0\x02\xff\xda", 1),
            12,
        ),
        "height of zero": (
            lambda f: pillow(f).replace(struct.pack(">HH", ROWS, COLUMNS), struct.pack(">HH", 0, COLUMNS), 1),
            12,
        ),
        "one row less": (
            lambda f: pillow(f).replace(struct.pack(">HH", ROWS, COLUMNS), struct.pack(">HH", ROWS - 1, COLUMNS), 1),
            12,
        ),
    }
    for name, (encode, error) in many.items():
        streams = [encode(frame) for frame in grey]
        for syntax in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless):
            yield Odd(f"{name}, {syntax.name}", make_encapsulated(streams, grey, syntax), grey, error)
        yield Odd(
            f"{name} in 16 bits",
            make_encapsulated(streams, grey.astype("u2"), JPEGBaseline8Bit, **bits_of(8)),
            grey,
            error,
        )
    twelve = [jpeg(bitspersample=12)(frame) for frame in wide]
    for syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        yield Odd(f"12 bits, {syntax.name}", make_encapsulated(twelve, wide, syntax, **bits_of(12)), wide, 60)
        yield Odd(
            f"12 bits signed, {syntax.name}",
            make_encapsulated(twelve, wide, syntax, PixelRepresentation=1, **bits_of(12)),
            wide,
            60,
        )
        yield Odd(
            f"12 bits said to be 16, {syntax.name}", make_encapsulated(twelve, wide, syntax, **bits_of(16)), wide, 60
        )
    noise = np.random.default_rng(0).integers(0, 1 << 16, (FRAMES, ROWS, COLUMNS)).astype("u2")
    for bits in (8, 10, 12, 16):
        for predictor in range(1, 8):
            for shift in (0, 3):
                for rows in (0, 5):
                    for syntax in (JPEGLossless, JPEGLosslessSV1):
                        truth = (noise >> 16 - bits >> shift << shift).astype("u1" if bits == 8 else "u2")
                        streams = [encode_lossless(frame, bits, predictor, shift, rows) for frame in truth]
                        yield Odd(
                            f"lossless {bits} bits, predictor {predictor}, shift {shift}, restarts {rows}, {syntax}",
                            make_encapsulated(streams, truth, syntax, **bits_of(bits)),
                            truth,
                        )


def other_streams() -> Iterator[Odd]:
    """JPEG-LS, JPEG 2000 and RLE in odd forms."""
    grey, wide = volume(8), volume(12)
    near = [bytes(jpeg_ls.encode_array(frame, lossy_error=3)) for frame in grey]
    for syntax in (JPEGLSLossless, JPEGLSNearLossless):
        yield Odd(f"near-lossless, {syntax.name}", make_encapsulated(near, grey, syntax), grey, 3)
        exact = [bytes(jpeg_ls.encode_array(frame)) for frame in grey]
        yield Odd(f"lossless, {syntax.name}", make_encapsulated(exact, grey, syntax), grey)
        for mode in (0, 1, 2):
            planes = np.repeat(grey[..., None], 3, axis=3) if mode != 0 else np.repeat(grey[:, None], 3, axis=1)
            streams = [
                bytes(jpeg_ls.encode_array(np.ascontiguousarray(frame), interleave_mode=mode)) for frame in planes
            ]
            for elements in ({}, {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}):
                yield Odd(
                    f"JPEG-LS of three components, mode {mode}, {len(elements)} {syntax.name}",
                    make_encapsulated(streams, grey, syntax, **elements),
                    grey,
                )
    for bits in (8, 12):
        voxels = grey if bits == 8 else wide
        for name, streams in {
            "JP2 box": [bytes(encode_array(f, bits, photometric_interpretation=2, codec_format=1)) for f in voxels],
            "bits 16": [bytes(encode_array(f.astype("u2"), 16, photometric_interpretation=2)) for f in voxels],
            "PLT": [
                bytes(encode_array(f, bits, photometric_interpretation=2, add_plt=True, add_tlm=True)) for f in voxels
            ],
            "three components": [
                bytes(encode_array(np.repeat(f[..., None], 3, axis=2), bits, photometric_interpretation=1))
                for f in voxels
            ],
            "signed stream": [
                bytes(
                    encode_array(
                        (f.astype(int) - (1 << bits - 1)).astype(f"i{f.itemsize}"), bits, photometric_interpretation=2
                    )
                )
                for f in voxels
            ],
        }.items():
            yield Odd(
                f"J2K {name}, {bits}", make_encapsulated(streams, voxels, JPEG2000Lossless, **bits_of(bits)), voxels
            )
            meant = voxels.astype(int) - (1 << bits - 1) if name == "signed stream" else voxels
            yield Odd(
                f"J2K {name}, {bits}, header signed",
                make_encapsulated(streams, voxels, JPEG2000Lossless, PixelRepresentation=1, **bits_of(bits)),
                meant,
            )
    for bits in (8, 12):
        syntax, streams, voxels = packed("rle", bits)
        segments = 1 if bits == 8 else 2
        heads = struct.pack("<L", segments + 1), struct.pack("<L", segments - 1), struct.pack(">L", segments)
        for name, change in {
            "segments one more": lambda s, heads=heads: heads[0] + s[4:],
            "segments one less": lambda s, heads=heads: heads[1] + s[4:],
            "segments big-endian": lambda s, heads=heads: heads[2] + s[4:],
            "an unused offset": lambda s: s[:60] + struct.pack("<L", 64) + s[64:],
            "two bytes short": lambda s: s[:-2],
            "ten bytes short": lambda s: s[:-10],
            "padded": lambda s: s + bytes(2),
            "padded with -128": lambda s: s + b"\x80\x80",
            "padded with FF": lambda s: s + b"\xff\xff",
            "header cut": lambda s: s[:60],
            "first offset 66": lambda s: s[:4] + struct.pack("<L", 66) + s[8:],
            "a row too many": lambda s: s + struct.pack("<bB", -(COLUMNS - 1), 7),
            "surplus run": lambda s: s + struct.pack("<bB", -1, 7),
        }.items():
            yield Odd(
                f"RLE {name}, {bits}",
                make_encapsulated([change(s) for s in streams], voxels, syntax, **bits_of(bits)),
                voxels,
            )
        if bits == 12:
            swapped = [encode_rle(f.byteswap()) for f in voxels]
            yield Odd("RLE low byte first", make_encapsulated(swapped, voxels, syntax, **bits_of(bits)), voxels)


FAMILIES = {
    one.__name__: one
    for one in (
        sound_files,
        header_faults,
        sample_layouts,
        numbers_of_frames,
        item_chains,
        native_lengths,
        native_kinds,
        colours,
        rescales,
        jpegs,
        other_streams,
    )
}


@cache
def family(name: str) -> tuple[Odd, ...]:
    """Make all files of a family; of what is wrong in them pydicom warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(FAMILIES[name]())
