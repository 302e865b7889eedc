"""What it took to encode the volumes of a store: kept in the record of each process that did so, and added up."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from embeddings_store.checksums import SEAL, seal_fault, sealed_json
from embeddings_store.documents import parse_object
from embeddings_store.errors import StoreError
from embeddings_store.foreign import is_own
from embeddings_store.storage import Storage, concurrently

WORKERS = "workers"
FIELD = "encoding"
ABSENT = "not recorded: the store is older, or every run that wrote it was cut off"
PER = 1000
MOST = 1e12
"""Of anything that a record states: more was never measured."""


@dataclass(frozen=True, slots=True)
class EncodingCost:
    """volumes: how many were encoded; seconds: of the machine, for the encoder alone, all of them together.

    peak_rss_mb: of the largest process; encoders: how many shared it. usd_per_hour: of the machine, if known.
    """

    volumes: int
    seconds: float
    peak_rss_mb: float
    device: str
    encoders: int
    usd_per_hour: float | None = None

    @property
    def seconds_a_volume(self) -> float:
        """Return the mean."""
        return self.seconds / self.volumes

    @property
    def hours_per_1000(self) -> float:
        """Return the hours of the encoder for 1,000 volumes."""
        return self.seconds_a_volume * PER / 3600

    def to_record(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def describe(self) -> str:
        """Return it as one line of text."""
        price = "" if self.usd_per_hour is None else f", ${self.hours_per_1000 * self.usd_per_hour:,.2f}"
        return (
            f"{self.seconds_a_volume:.3g} s a volume on {self.device}; 1,000 volumes: {self.hours_per_1000:.2g} h of "
            f"the encoder{price}; {self.describe_memory()}"
        )

    def describe_memory(self) -> str:
        """Return the peak memory in words."""
        shared = f", {self.encoders} encoders together" if self.encoders > 1 else ""
        return f"peak memory {self.peak_rss_mb:,.0f} MB{shared}"


def cost_of_record(record: object) -> EncodingCost | None:
    """Read what to_record gave; None where nothing, or nothing that can be, was recorded."""
    if not isinstance(record, Mapping) or not isinstance(record.get("device"), str):
        return None
    names = ("volumes", "seconds", "peak_rss_mb", "encoders")
    volumes, seconds, peak, encoders = (record.get(name, -1) for name in names)
    price = record.get("usd_per_hour")
    if not all(map(_is_amount, (volumes, seconds, peak, encoders, price or 0))) or volumes < 1:
        return None
    dollars = None if price is None else float(price)
    return EncodingCost(int(volumes), float(seconds), float(peak), record["device"], int(encoders), dollars)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST


def record_encoding_cost(storage: Storage, worker_id: int, cost: EncodingCost) -> None:
    """Add the cost to the record of the process that wrote the rows, or led those who did.

    Raises: StoreError where that record is missing or damaged: what it says of the process is not written over.
    """
    path = f"{WORKERS}/{worker_id}.json"
    if not (record := _record(storage.get(path)) or _record(storage.get(path))):  # bytes are flipped on the way, too
        raise StoreError(f"{storage.url} is damaged: {path} is missing or has another checksum; run verify")
    storage.put(path, sealed_json(record | {FIELD: cost.to_record()}))


def read_encoding_cost(storage: Storage) -> EncodingCost | None:
    """Add up what the processes recorded; None where none did."""
    paths = [path for path in storage.list_paths(WORKERS) if is_own(path)]
    records = map(_record, concurrently(storage.get, paths, storage.threads))
    return _together([cost for record in records if (cost := cost_of_record(record.get(FIELD))) is not None])


def _together(costs: Sequence[EncodingCost]) -> EncodingCost | None:
    if not costs:
        return None
    prices = {one.usd_per_hour for one in costs}
    return EncodingCost(
        volumes=sum(one.volumes for one in costs),
        seconds=sum(one.seconds for one in costs),
        peak_rss_mb=max(one.peak_rss_mb for one in costs),
        device=", ".join(sorted({one.device for one in costs})),
        encoders=max(one.encoders for one in costs),
        usd_per_hour=prices.pop() if len(prices) == 1 else None,
    )


def _record(body: Any) -> dict[str, Any]:
    if body is None or seal_fault(body) is not None:
        return {}
    record: dict[str, Any] = parse_object(body)
    record.pop(SEAL, None)
    return record
