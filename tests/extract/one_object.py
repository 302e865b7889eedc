"""A folder that stands for a far bucket, with one object, and tells what was asked of it."""

from pathlib import Path

from embeddings_store.schema import Eye, ParticipantId, VolumeRef, volume_id
from extract.bucket.folder import FolderSource
from extract.bucket.source import Fetched, FetchedRange, Wanted

KEY = "retinal_oct/structural_oct/topcon_triton/1001/1001_triton_macula_6x6_oct_l_1.2.3.dcm"


class Bucket(FolderSource):
    """A folder with one object, which tells what was asked of it."""

    def __init__(self, root: Path, data: bytes) -> None:
        (root / KEY).parent.mkdir(parents=True, exist_ok=True)
        (root / KEY).write_bytes(data)
        super().__init__(root)
        self.whole, self.ranges = 0, list[tuple[int, int]]()
        (info,) = self.list_objects()
        self.ref = VolumeRef(
            KEY, info.size, info.etag, volume_id(KEY), ParticipantId("1001"), Eye.LEFT, "topcon_triton", "triton"
        )

    def fetch(self, wanted: Wanted) -> Fetched:
        self.whole += 1
        return super().fetch(wanted)

    def fetch_range(self, wanted: Wanted, start: int, stop: int) -> FetchedRange:
        self.ranges.append((start, stop))
        return super().fetch_range(wanted, start, stop)
