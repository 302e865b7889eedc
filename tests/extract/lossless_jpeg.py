"""An encoder of lossless JPEG that knows what others leave out: every predictor, point transforms, restarts, wraps."""

import struct

import numpy as np

LENGTHS = 17
"""One code for each size of a difference, 0 to 16, all of 5 bits."""


def encode_lossless(frame: np.ndarray, bits: int, predictor: int = 1, shift: int = 0, rows_a_restart: int = 0) -> bytes:
    """Encode one grey frame of so many bits; differences are modulo 2**16, as ITU-T T.81, H.1.2.1 has them.

    shift: bits that are left out (the point transform). rows_a_restart: 0 for no restart markers.
    """
    samples = (frame >> shift).astype(int)
    rows, columns = samples.shape
    step = rows_a_restart or rows
    parts = [_scan(samples[top : top + step], 1 << bits - shift - 1, predictor) for top in range(0, rows, step)]
    scan = parts[0] + b"".join(bytes((0xFF, 0xD0 + number % 8)) + part for number, part in enumerate(parts[1:]))
    table = bytes([0] * 4 + [LENGTHS] + [0] * 11) + bytes(range(LENGTHS))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xC4, b"\x00" + table),
            _segment(0xC3, struct.pack(">BHHB3B", bits, rows, columns, 1, 1, 0x11, 0)),
            _segment(0xDD, struct.pack(">H", step * columns)) if rows_a_restart else b"",
            _segment(0xDA, bytes((1, 1, 0, predictor, 0, shift))),
            scan,
            b"\xff\xd9",
        )
    )


def _segment(marker: int, value: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(value) + 2) + value


def _scan(samples: np.ndarray, middle: int, predictor: int) -> bytes:
    differences = samples - _predict(samples, middle, predictor)
    words = []
    for difference in ((differences + (1 << 15)) % (1 << 16) - (1 << 15)).ravel().tolist():
        size = 16 if difference == -(1 << 15) else abs(difference).bit_length()
        words.append(f"{size:05b}")
        if 0 < size < 16:
            words.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(words)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")


def _predict(samples: np.ndarray, middle: int, predictor: int) -> np.ndarray:
    """Predict each sample from its neighbours: left (a), above (b), above left (c); T.81, table H.1."""
    a, b, c = (np.zeros_like(samples) for _ in range(3))
    a[:, 1:], b[1:], c[1:, 1:] = samples[:, :-1], samples[:-1], samples[:-1, :-1]
    formulas = (None, a, b, c, a + b - c, a + (b - c >> 1), b + (a - c >> 1), a + b >> 1)
    chosen = formulas[predictor]
    assert chosen is not None
    found = chosen.copy()
    found[0], found[1:, 0] = a[0], b[1:, 0]
    found[0, 0] = middle
    return found
