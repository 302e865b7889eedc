"""Ways to damage a DICOM file, each from a random generator alone: the same number gives the same bytes."""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

DEFLATED = b"1.2.840.10008.1.2.1.99"
IMPLICIT = b"1.2.840.10008.1.2\0"
BIG_ENDIAN = b"1.2.840.10008.1.2.2\0"
LONG_VRS = {b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"OL", b"OV", b"UC", b"UR"}
GROUPS = (0x0002, 0x0008, 0x0010, 0x0018, 0x0020, 0x0028, 0x0040, 0x3004, 0x300A, 0x5200, 0x7FE0, 0xFFFE)
NESTED_TAGS = ((0x5200, 0x9229), (0x5200, 0x9230), (0x0028, 0x9110), (0x0020, 0x9113), (0x0029, 0x1010))
EXTREMES = (0, 1, 2, 7, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
TEXTS = (
    b"nan",
    b"1e999",
    b"-inf",
    b"\\",
    b"1\\2\\3",
    b"-1",
    b"99999999999",
    b"\xff\xfe",
    b"1e38",
    b"",
    b"0x10",
    b"1_0",
)


@dataclass(frozen=True)
class Whole:
    """A file, and what a damage needs to know of it: byte order, VRs, and where its tags are written."""

    data: bytes
    little_endian: bool
    implicit: bool
    tags: tuple[int, ...]
    pixels: int

    def length_field(self, tag: int) -> tuple[int, str]:
        """Give the place and the format of the length that follows a tag."""
        order = "<" if self.little_endian else ">"
        vr = self.data[tag + 4 : tag + 6]
        if self.implicit or not (vr.isalpha() and vr.isupper()):
            return tag + 4, order + "L"
        return (tag + 8, order + "L") if vr in LONG_VRS else (tag + 6, order + "H")


def examine(data: bytes) -> Whole:
    """Find where tags of the known groups are written; a few of the places may be values that look alike."""
    little, implicit = BIG_ENDIAN not in data[:600], IMPLICIT in data[:600]
    pixels = data.rfind(struct.pack("<HH" if little else ">HH", 0x7FE0, 0x0010))
    groups = {struct.pack("<H" if little else ">H", group) for group in GROUPS} | {b"\x02\x00"}
    ends = {match.start() for match in re.finditer(b"\xfe\xff(\x00\xe0|\xdd\xe0)", data) if match.start() > pixels > 0}
    places = range(132, (pixels if pixels > 0 else len(data)) + 2, 2)
    found = {place for place in places if data[place : place + 2] in groups} | ends
    return Whole(data, little, implicit, tuple(sorted(place for place in found if 0 <= place < len(data) - 12)), pixels)


def flip_bits(whole: Whole, rng: np.random.Generator) -> bytes:
    """Flip 1 to 8 bits: anywhere, or around one tag."""
    damaged = bytearray(whole.data)
    near = int(rng.choice(whole.tags))
    for _ in range(rng.integers(1, 9)):
        place = int(rng.integers(len(damaged))) if rng.random() < 0.5 else near + int(rng.integers(40))
        damaged[min(place, len(damaged) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def flip_pixels(whole: Whole, rng: np.random.Generator) -> bytes:
    """Flip 1 to 5 bits of the pixel data: at the start of an item, where a code stream has its header, or anywhere."""
    damaged = bytearray(whole.data)
    pixels = whole.pixels if whole.pixels > 0 else whole.tags[0]
    items = [tag for tag in whole.tags if tag >= pixels]
    near = int(rng.choice(items or [pixels]))
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(pixels, len(damaged))) if rng.random() < 0.4 else near + 8 + int(rng.integers(100))
        damaged[min(place, len(damaged) - 1)] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def change_image_module(whole: Whole, rng: np.random.Generator) -> bytes:
    """Change a value of group 0028 - rows, columns, bits, frames, rescale - and leave the rest as it is."""
    group = struct.pack("<H" if whole.little_endian else ">H", 0x0028)
    tags = tuple(tag for tag in whole.tags if whole.data[tag : tag + 2] == group)
    return change_value(replace(whole, tags=tags or whole.tags), rng)


def cut(whole: Whole, rng: np.random.Generator) -> bytes:
    """Let the file end at a tag, or a byte or some bytes after it."""
    return whole.data[: int(rng.choice(whole.tags)) + int(rng.choice([0, 0, 0, 1, 4, 6, 8, 12, 20]))]


def swap_lengths(whole: Whole, rng: np.random.Generator) -> bytes:
    """Exchange the lengths of two elements, or claim an extreme one."""
    damaged = bytearray(whole.data)
    (one, one_kind), (other, other_kind) = (whole.length_field(int(tag)) for tag in rng.choice(whole.tags, 2))
    (first,), (second,) = struct.unpack_from(one_kind, damaged, one), struct.unpack_from(other_kind, damaged, other)
    if rng.random() < 0.4:
        first = second = int(rng.choice(EXTREMES))
    struct.pack_into(one_kind, damaged, one, second & (0xFFFF if one_kind[1] == "H" else 0xFFFFFFFF))
    struct.pack_into(other_kind, damaged, other, first & (0xFFFF if other_kind[1] == "H" else 0xFFFFFFFF))
    return bytes(damaged)


def nest(whole: Whole, rng: np.random.Generator) -> bytes:
    """Put sequences within sequences before a tag, 1 to 4000 deep, closed or left open."""
    tag, depth = NESTED_TAGS[rng.integers(len(NESTED_TAGS))], int(rng.choice([1, 2, 10, 100, 900, 1500, 4000]))
    order = "<" if whole.little_endian else ">"
    length = 0xFFFFFFFF if rng.random() < 0.7 else int(rng.choice(EXTREMES))
    vr = b"" if whole.implicit else bytes(rng.choice([b"SQ", b"SQ", b"SQ", b"UN"])) + b"\0\0"
    head = struct.pack(order + "HH", *tag) + vr + struct.pack(order + "L", length)
    head += struct.pack(order + "HHL", 0xFFFE, 0xE000, length)
    tail = struct.pack(order + "HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    closed = depth if rng.random() < 0.7 else int(rng.integers(depth))
    place = int(rng.choice(whole.tags[len(whole.tags) // 4 :]))
    return whole.data[:place] + head * depth + tail * closed + whole.data[place:]


def change_value(whole: Whole, rng: np.random.Generator) -> bytes:
    """Write an extreme number or text where the value of an element starts."""
    damaged = bytearray(whole.data)
    for tag in rng.choice(whole.tags, int(rng.integers(1, 4))):
        field, kind = whole.length_field(int(tag))
        start = field + struct.calcsize(kind)
        number = struct.pack(kind[0] + "L", EXTREMES[rng.integers(len(EXTREMES))])[: int(rng.choice([2, 4]))]
        width = struct.unpack_from(kind, damaged, field)[0]
        value = number if width in {2, 4} and rng.random() < 0.8 else TEXTS[rng.integers(len(TEXTS))]
        damaged[start : start + len(value)] = value
    return bytes(damaged)


def shuffle_elements(whole: Whole, rng: np.random.Generator) -> bytes:
    """Repeat, drop or exchange the bytes between two tags."""
    spans = [whole.data[a:b] for a, b in pairwise((*whole.tags, len(whole.data)))]
    one, other = (int(n) for n in rng.integers(len(spans), size=2))
    choice = rng.integers(3)
    if choice == 0:
        spans.insert(one, spans[other])
    elif choice == 1:
        del spans[one]
    else:
        spans[one], spans[other] = spans[other], spans[one]
    return whole.data[: whole.tags[0]] + b"".join(spans)


Damage = Callable[[Whole, np.random.Generator], bytes]
DAMAGES: dict[str, Damage] = {
    damage.__name__: damage
    for damage in (
        flip_bits,
        flip_pixels,
        change_image_module,
        cut,
        swap_lengths,
        nest,
        change_value,
        shuffle_elements,
    )
}


def damage_file(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Damage a file in one or two ways; a deflated one mostly below its deflation. Gives the recipe and the bytes."""
    if DEFLATED in data[:600] and rng.random() < 0.8:
        start = 144 + int.from_bytes(data[140:144], "little")
        head, body = data[:start], zlib.decompress(data[start:], -zlib.MAX_WBITS)
        recipe, damaged = _damage(head + body, rng)
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return f"{recipe} (inflated)", damaged[:start] + packer.compress(damaged[start:]) + packer.flush()
    return _damage(data, rng)


def cut_at_every_tag(data: bytes) -> list[bytes]:
    """Give the file as it would end at each of its tags."""
    return [data[:tag] for tag in examine(data).tags]


def _damage(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    names = [str(name) for name in rng.choice(list(DAMAGES), 1 if rng.random() < 0.7 else 2)]
    for name in names:
        whole = examine(data)
        if len(whole.tags) < 4:
            break
        data = DAMAGES[name](whole, rng)
    return " + ".join(names), data
