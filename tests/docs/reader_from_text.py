"""A reader of stores that knows docs/store-format.md and nothing else: NumPy, JSON, and a Parquet library."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901 - 0x1EDC6F41, reflected
    CRC_TABLE.append(byte)


def crc32c(*parts: bytes) -> int:
    crc = 0xFFFFFFFF
    for part in parts:
        for byte in part:
            crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Store:
    """Chapters 3 and 4: the root document and the space."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        attributes = json.loads((folder / "zarr.json").read_text())["attributes"]
        assert attributes["format"] == "octprobe embeddings"
        assert attributes["schema_version"] in (2, 3, 4)
        self.space: dict[str, Any] = attributes["space"]
        canonical = json.dumps(self.space, sort_keys=True, separators=(",", ":")).encode()
        assert hashlib.sha256(canonical).hexdigest()[:16] == attributes["space_id"]
        self.layers, self.pools = self.space["layers"], self.space["pools"]
        self.packs = self.read_packs()
        self.vectors = (len(self.layers), len(self.pools), self.space["width"])

    def chunk(self, array: str, row: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Chapter 5: a row's numbers, then their crc."""
        single = self.folder / array / ".".join(["c", str(row), *"0" * len(shape)])
        packed = self.packed(array, row)
        body = single.read_bytes() if packed is None else packed
        numbers, crc = body[:-4], body[-4:]
        assert crc32c(numbers) == int.from_bytes(crc, "little")
        return np.frombuffer(numbers, dtype).reshape(shape)

    def rows(self) -> list[int]:
        """Chapter 6: a row exists when its commit does."""
        single = {int(path.name.split(".")[1]) for path in (self.folder / "commit").glob("c.*.0")}
        packed = {row for _, rows in self.packs for row in rows}
        return [row for row in sorted(single | packed) if self.commit(row)[0] in (2, 3)]

    def read_packs(self) -> list[tuple[Path, dict[int, list[tuple[int, int]]]]]:
        """Chapter 11: each pack, and of each of its rows where its files begin and their bytes."""
        found = []
        for path in sorted((self.folder / "packs").glob("*.*.commit")):
            body, size = path.read_bytes(), 4 * 5 * 1025
            copy = next(
                one for one in (body, body[-size - 4 :]) if crc32c(one[:size]) == self.number(one[size : size + 4])
            )
            table = np.frombuffer(copy[:size], "<u4").reshape(5, 1025).astype(int)
            starts, first = np.cumsum(table, axis=1) - table, 1024 * int(path.name.split(".")[0])
            starts[4] += size + 4
            rows = (np.flatnonzero(table[4, :1024]) + first).tolist()
            dropped = {int(one.name.split(".")[2]) for one in path.parent.glob(f"{path.stem}.*.dropped")}
            places = {row: list(zip(starts[:, row - first], table[:, row - first], strict=True)) for row in rows}
            found.append((path, {row: place for row, place in places.items() if row not in dropped}))
        return found

    @staticmethod
    def number(crc: bytes) -> int:
        return int.from_bytes(crc, "little")

    def packed(self, kind: str, row: int) -> bytes | None:
        for path, rows in self.packs:
            if row in rows and kind in (kinds := ["pooled", "facts", "thumbnail", "kinds", "commit"]):
                start, size = rows[row][kinds.index(kind)]
                return path.with_suffix(f".{kind}").read_bytes()[start : start + size]
        return None

    def commit(self, row: int) -> list[int]:
        return [int(number) for number in self.chunk("commit", row, (8,), "<i8")]

    def pooled(self, row: int) -> np.ndarray:
        return self.chunk("pooled", row, self.vectors, "<f4")

    def facts(self, row: int) -> np.ndarray:
        return self.chunk("facts", row, (14,), "<f8")

    def token_parts(self, row: int, layer: str) -> list[np.ndarray]:
        grid, width = tuple(self.space["token_grid"]), self.space["width"]
        if self.space["token_dtype"] == "float16":
            return [self.chunk(f"tokens/{layer}", row, (*grid, width), "<f2")]
        levels = self.chunk(f"tokens/{layer}", row, (*grid, width), "|i1")
        return [levels, self.chunk(f"token_scales/{layer}", row, grid, "<f4")]

    def tokens(self, row: int, layer: str) -> np.ndarray:
        stored, *scales = self.token_parts(row, layer)
        return (stored.astype("f4") * scales[0][..., None]).astype("f2") if scales else stored

    def is_whole(self, row: int) -> bool:
        """Compare a row with the sums of its commit."""
        status, vectors, tokens, *_ = self.commit(row)
        facts = self.facts(row)[: {1: 8, 2: 14, 3: 14}[status]]
        parts = [part.tobytes() for layer in self.layers for part in self.token_parts(row, layer)]
        picture = self.thumbnail(row)
        high = 0 if picture is None else crc32c(picture.tobytes())
        low = crc32c(self.pooled(row).tobytes(), facts.tobytes())
        return (high, low, crc32c(*parts)) == (*divmod(vectors % (1 << 64), 1 << 32), tokens)

    def thumbnail(self, row: int) -> np.ndarray | None:
        return self.chunk("thumbnail", row, (8, 32, 32), "|u1") if self.commit(row)[0] == 3 else None

    def source_md5(self, row: int) -> str:
        high, low = self.commit(row)[4:6]
        return b"".join(half.to_bytes(8, "big", signed=True) for half in (high, low)).hex()

    def index(self) -> dict[int, dict[str, Any]]:
        """Chapter 7: segments in order, the last line of a row holds."""
        segments = sorted((self.folder / "index").glob("*.parquet"))
        lines: dict[int, dict[str, Any]] = {}
        for number, path in enumerate(segments, start=1):
            first, _, crc = path.stem.split("-")
            assert (int(first), int(crc, 16)) == (number, crc32c(path.read_bytes()))
            lines |= {line["row"]: line for line in pyarrow.parquet.read_table(path).to_pylist()}
        assert sorted(lines) == list(range(len(lines)))
        return lines

    def seal_holds(self, path: str) -> bool:
        """Chapter 9: a record ends with its own sum."""
        record = json.loads((self.folder / path).read_text())
        seal = record.pop("crc32c")
        return bool(int(seal, 16) == crc32c(json.dumps(record, sort_keys=True).encode()))

    def listed_documents(self, path: str, below: str = "") -> bool:
        lines = (self.folder / path).read_text().splitlines(keepends=True)
        listed = [line.rstrip("\n").split("  ") for line in lines[:-1]]
        own = all(int(crc, 16) == crc32c((self.folder / below / name).read_bytes()) for crc, name in listed)
        return own and int(lines[-1], 16) == crc32c("".join(lines[:-1]).encode())
