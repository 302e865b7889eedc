"""Extraction writes where its encoder comes from beside the space, for each store that it fills."""

import json
from pathlib import Path

from small_bucket import fill_bucket, options

from embeddings_store.reader import open_reader
from embeddings_store.snapshot import read_features_source
from embeddings_store.status import store_status
from extract.pipeline import extract


def test_each_store_names_its_own_encoder(tmp_path: Path) -> None:
    bucket, stores = fill_bucket(tmp_path / "bucket", 2), [tmp_path / "a", tmp_path / "b"]
    extract(options(bucket, *stores))
    for seed, store in enumerate(stores):
        written = json.loads((store / "encoder.json").read_text())
        found = read_features_source(str(store))
        assert found.encoder is not None
        assert (written["name"], written["training"]) == (f"random:tiny,seed={seed}", "random")
        assert written["weights_sha256"] == found.space.weights_sha256
        assert found.encoder.to_record() == store_status(open_reader(str(store)))["encoder"]
        assert found.encoder.is_untrained
