"""Cut off after every single change in turn: what is left is never half a row, and the next run finishes it."""

import numpy as np
import pytest
from store_makers import (
    FAILURE,
    SPACE,
    WORKER,
    CutOffStorage,
    make_ref,
    make_refs,
    memory_storage,
    pooled_of,
    write_rows,
)

from embeddings_store.errors import StoreError
from embeddings_store.reader import reader_on
from embeddings_store.storage import Storage
from embeddings_store.writer import StoreWriter, writer_on

# The way of one volume that failed once, succeeded, and was then replaced in the bucket.
CHANGES = 48


def live(storage: Storage) -> None:
    writer = open_on(storage)
    writer.add_volumes(make_refs(2))
    writer.write_error(0, FAILURE)
    write_rows(writer, [0, 1])
    writer.add_volumes([make_ref(1, size=7)])
    write_rows(writer, [1])


def open_on(storage: Storage) -> StoreWriter:
    return writer_on(storage, SPACE, 10, WORKER)


@pytest.mark.parametrize("changes", range(CHANGES))
def test_after_any_number_of_changes_rows_are_whole_or_missing(changes: int) -> None:
    storage = memory_storage()
    with pytest.raises(StoreError, match="cut off"):
        live(CutOffStorage(storage.url, storage.objects, [changes]))
        raise StoreError("cut off")  # the whole life fitted in

    # A worker's record of its own is no part of a creation that was cut off.
    writer = open_on(storage)
    lost = {line.row for line in writer.missing_rows()}
    reader = reader_on(storage)
    done = np.flatnonzero(reader.committed()).tolist()
    reader.vectors(done)
    assert lost.isdisjoint(done)
    live(storage)
    assert reader_on(storage).index()["size"].tolist() == [1000, 7]
    np.testing.assert_array_equal(reader_on(storage).vectors([0, 1])[0], np.stack([pooled_of(0), pooled_of(1)]))
