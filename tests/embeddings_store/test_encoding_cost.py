"""What the encoding of a store took: kept in the records of its workers, added up, absent where nobody knows."""

from pathlib import Path
from typing import Any

import pytest

from embeddings_store.checksums import sealed_json
from embeddings_store.encoding_cost import EncodingCost, cost_of_record, read_encoding_cost, record_encoding_cost
from embeddings_store.errors import StoreError
from embeddings_store.file_faults import file_faults
from embeddings_store.storage import open_storage


def test_costs_of_several_runs_are_added_and_records_stay_sealed(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path), create=True)
    storage.put("workers/1.json", sealed_json({"worker": "1", "device": "cpu"}))
    assert read_encoding_cost(storage) is None
    for worker in (2, 3):
        storage.put(f"workers/{worker}.json", sealed_json({"worker": str(worker), "device": "cpu"}))
    record_encoding_cost(storage, 1, EncodingCost(2, 6.0, 900.0, "cpu", 1, 3.6))
    record_encoding_cost(storage, 2, EncodingCost(1, 3.0, 700.0, "cpu", 5, 3.6))
    found = read_encoding_cost(storage)
    assert found == EncodingCost(3, 9.0, 900.0, "cpu", 5, 3.6)
    assert found.describe() == (
        "3 s a volume on cpu; 1,000 volumes: 0.83 h of the encoder, $3.00; peak memory 900 MB, 5 encoders together"
    )
    assert file_faults(storage) == {}
    record_encoding_cost(storage, 3, EncodingCost(1, 1.0, 700.0, "cuda", 1))
    found = read_encoding_cost(storage)
    assert found is not None
    assert (found.device, found.usd_per_hour) == ("cpu, cuda", None)


def test_a_damaged_record_counts_for_nothing_and_is_not_written_over(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path), create=True)
    storage.put("workers/1.json", sealed_json({"worker": "1", "device": "cpu"}))
    record_encoding_cost(storage, 1, EncodingCost(2, 6.0, 900.0, "cpu", 1))
    body = bytes(storage.get("workers/1.json") or b"")
    storage.put("workers/1.json", body.replace(b"6.0", b"9.0"))
    assert read_encoding_cost(storage) is None
    assert list(file_faults(storage)) == ["workers/1.json"]
    with pytest.raises(StoreError, match=r"workers/1\.json is missing or has another checksum"):
        record_encoding_cost(storage, 1, EncodingCost(1, 1.0, 900.0, "cpu", 1))
    assert list(file_faults(storage)) == ["workers/1.json"]


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        [1],
        "text",
        {"volumes": 1, "seconds": float("inf"), "peak_rss_mb": 1.0, "device": "cpu", "encoders": 1},
        {"volumes": 1, "seconds": float("nan"), "peak_rss_mb": 1.0, "device": "cpu", "encoders": 1},
        {"volumes": 1, "seconds": 1, "peak_rss_mb": 1.0, "device": "cpu", "encoders": 1, "usd_per_hour": "2"},
        {"volumes": 0, "seconds": 1.0, "peak_rss_mb": 1.0, "device": "cpu", "encoders": 1},
        {"volumes": 3, "seconds": "1", "peak_rss_mb": 1.0, "device": "cpu", "encoders": 1},
    ],
)
def test_what_is_no_cost(record: Any) -> None:
    assert cost_of_record(record) is None
