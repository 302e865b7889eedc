"""Vendor files made for the tests: the few fields that readers look at, every other byte zero."""

import struct
from collections.abc import Sequence

import numpy as np

EMPTY = np.finfo(np.float32).max


def make_vol(grey: np.ndarray, *, eye: bytes = b"OS", pattern: int = 3, spacing=(0.12, 0.0039, 0.0114)) -> bytes:
    """Write a .vol whose B-scans HEYEX would show with these grey values; 0 is where nothing was imaged."""
    frames, rows, columns = grey.shape
    between, axial, lateral = spacing
    head = struct.pack("<12sIIIdddIIddId4sQII", b"HSF-OCT-103", columns, frames, rows, lateral, between, axial, 5, 4,
                       0.01, 0.01, 30, 0.5, eye, 0, pattern, 512)  # fmt: skip
    out = head.ljust(2048, b"\0") + bytes(20)
    for frame in grey:
        shown = frame.astype(np.float32) / 255
        raw = (np.exp(shown * 8.285 - 8.3) - 2.44e-4).clip(0).astype("<f4")
        raw[frame == 0] = EMPTY
        out += struct.pack("<12sI", b"HSF-BS-103", 512).ljust(512, b"\0") + raw.tobytes()
    return out


def make_e2e(series: Sequence[tuple[bytes, np.ndarray]], *, missing: int = 0, multiple: bool = False) -> bytes:
    """Write an .e2e. series: eye and 16-bit words of each volume. missing: B-scans that are counted but not there."""
    parts = []
    for number, (eye, words) in enumerate(series, 1):
        parts.append((number, -1, 0, 11, bytes(14) + eye + b"\0"))
        parts.append((number, -1, 0, 9, b"Somebody".ljust(127, b"\0")))
        parts.append((number, -1, 0, 1 << 30, struct.pack("<5I", 4, 33620481, 4, 2, 2) + bytes(4)))
        for index, frame in enumerate(words):
            rows, columns = frame.shape
            meta = struct.pack("<III4fIfff", 0, rows, columns, 0, 0, 1, 1, 0, 0, 0.0039, 0)
            meta += struct.pack("<IffIIII", 0, 0, 0, 0, columns, len(words) + missing, index)
            parts.append((number, 2 * index, 1, 10004, meta.ljust(428, b"\0")))
            head = struct.pack("<5I", 2 * frame.size, 35652097, frame.size, rows, columns)
            parts.append((number, 2 * index, 1, 1 << 30, head + frame.astype("<u2").tobytes()))
    directory, start = 36 + 52, 36 + 52 + 52 + 44 * len(parts)
    entries, bodies = b"", b""
    for number, slice_id, kind, code, body in parts:
        entries += struct.pack("<4I3IiHHII", directory, start, len(body), 0, 7, 8, number, slice_id, kind, 0, code, 0)
        bodies += struct.pack("<12s5I3IiHHII", b"MDbData", 0, directory, start, len(body), 0, 7, 8, number, slice_id,
                              kind, 0, code, 0) + body  # fmt: skip
        start += 60 + len(body)
    main = struct.pack("<12sI20sIIII", b"MDbMDir", 100, bytes(20), 0, directory, 0, 0)
    own = struct.pack("<12sI20sIIII", b"MDbDir", 100, bytes(20), len(parts), directory, 0, 0)
    out = struct.pack("<12sI20s", b"CMDb", 100, bytes(20)) + main + own + entries + bodies
    return (b"E2EMultipleVolumeFile".ljust(64, b"\0") if multiple else b"") + out


def make_topcon(
    voxels: np.ndarray | None, streams: Sequence[bytes] = (), *, fds: bool = False, eye: int = 1, size=(6.0, 6.0, 2.6)
) -> bytes:
    """Write a .fda or .fds: 16-bit voxels, or compressed B-scans of the same size."""
    parts = []
    if streams:
        rows, columns = voxels.shape[1:]
        head = struct.pack("<B6I", 0, 0, 0, columns, rows, len(streams), 0)
        parts.append((b"@IMG_JPEG", head + b"".join(struct.pack("<I", len(one)) + one for one in streams)))
    else:
        frames, rows, columns = voxels.shape
        head = struct.pack("<BIIIIBI", 0, columns, rows, 16, frames, 0, voxels.size * 2)
        parts.append((b"@IMG_SCAN_03" if fds else b"@IMG_MOT_COMP_03", head + voxels.astype("<u2").tobytes()))
    parts.append((b"@PARAM_SCAN_04", struct.pack("<3I5dBB", 0, 0, 0, *size, 0, 0, 0, 0)))
    parts.append((b"@CAPTURE_INFO_02", struct.pack("<BBI100s6H", eye, 0, 0, b"", 2020, 1, 2, 3, 4, 5)))
    out = b"FOCT" + (b"FDS" if fds else b"FDA") + struct.pack("<II", 2, 0)
    for name, body in parts:
        out += bytes((len(name),)) + name + struct.pack("<I", len(body)) + body
    return out + b"\0"


def make_cirrus(voxels: np.ndarray) -> bytes:
    """Write upright B-scans as a Cirrus .img: B-scan by B-scan, each lying on its head and mirrored."""
    return np.ascontiguousarray(voxels[:, ::-1, ::-1]).tobytes()


def make_bioptigen(volumes: np.ndarray, *, lengths=(3.4, 10.0, 5.0)) -> bytes:
    """Write an .OCT of several volumes. lengths: depth, width and height of the scan in mm."""
    count, frames, rows, columns = volumes.shape

    def field(name: str, value: bytes) -> bytes:
        return struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", len(value)) + value

    def whole(value: int) -> bytes:
        return struct.pack("<I", value)

    def real(value: float) -> bytes:
        return struct.pack("<d", value)

    depth, width, height = lengths
    out = struct.pack("<IH", 0x51434F54, 0x0103) + struct.pack("<I", 11) + b"FRAMEHEADER" + struct.pack("<I", 0)
    for name, value in (
        ("FRAMECOUNT", whole(count * frames)), ("LINECOUNT", whole(columns)), ("LINELENGTH", whole(rows)),
        ("SAMPLEFORMAT", whole(2)), ("DESCRIPTION", b"test"), ("XMIN", real(0)), ("XMAX", real(1)), ("XCAPTION", b"x"),
        ("YMIN", real(0)), ("YMAX", real(1)), ("YCAPTION", b"y"), ("SCANTYPE", whole(1)), ("SCANDEPTH", real(depth)),
        ("SCANLENGTH", real(width)), ("AZSCANLENGTH", real(width)), ("ELSCANLENGTH", real(height)),
        ("OBJECTDISTANCE", real(0)), ("SCANANGLE", real(0)), ("SCANS", whole(frames)), ("FRAMES", whole(count)),
        ("DOPPLERFLAG", whole(0)), ("CONFIG", b"abc"),
    ):  # fmt: skip
        out += field(name, value)
    out += bytes(4)
    for frame in volumes.reshape(-1, rows, columns):
        out += struct.pack("<I", 9) + b"FRAMEDATA" + struct.pack("<I", 0)
        out += field("FRAMEDATETIME", struct.pack("<8H", 2020, 1, 3, 2, 3, 4, 5, 6)) + field("FRAMETIMESTAMP", real(0))
        out += field("FRAMELINES", whole(columns))
        out += struct.pack("<I", 12) + b"FRAMESAMPLES" + struct.pack("<I", frame.size * 2)
        out += frame.T.astype("<u2").tobytes() + bytes(4)
    return out


def make_heyex_xml(names: Sequence[str], *, eye: str = "R") -> bytes:
    """Write the XML of an export whose B-scans are these pictures, 0.12 mm from one another."""
    images = "".join(
        "<Image><ImageType><Type>OCT</Type></ImageType><OphthalmicAcquisitionContext><Width>8</Width>"
        f"<ScaleX>0.0114</ScaleX><ScaleY>0.0039</ScaleY><Start><Coord><X>0</X><Y>{0.12 * index}</Y></Coord></Start>"
        f"<End><Coord><X>4</X><Y>{0.12 * index}</Y></Coord></End></OphthalmicAcquisitionContext>"
        f"<ImageData><ExamURL>C:\\Export\\{name}</ExamURL></ImageData></Image>"
        for index, name in enumerate(names)
    )
    local = (
        "<Image><ImageType><Type>LOCALIZER</Type></ImageType><ImageData><ExamURL>slo.png</ExamURL></ImageData></Image>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<HEDX><BODY><Patient><LastName>Nobody</LastName><Study><Series>'
        f"<Laterality>{eye}</Laterality>{local}{images}</Series></Study></Patient></BODY></HEDX>"
    ).encode()
