"""Labels of a dataset by name for training: from the store, or from the bucket itself where there is none."""

from collections.abc import Callable
from typing import TypeVar

from classify.cohort.stored_labels import StoredLabels, labels_of_record
from classify.named_tasks import with_stored_labels
from embeddings_store.errors import UsageError
from extract.bucket.catalogue import list_volumes
from extract.bucket.open import open_source
from extract.dataset_labels import record_of
from finetune.data.volumes import STREAMS
from finetune.options import TrainingOptions

OptionsT = TypeVar("OptionsT", bound=TrainingOptions)


def with_labels_of_dataset(options: OptionsT, tell: Callable[[str], None]) -> OptionsT:
    """Return options whose labels, task and splits are those of the dataset of the store or bucket, if it is one.

    A bucket alone says nothing of scans of equal voxels: they are found as they are read, and refused. Raises:
    UsageError, StoreError, RunFolderError, BucketError.
    """

    def find(bucket: str) -> StoredLabels:
        source = open_source(bucket, options.prefix, options.endpoint_url, streams=STREAMS, layout=options)
        listing = list_volumes(source)
        record = record_of(source, listing, {ref.key for ref in listing.refs[: options.limit]})
        if record is None:
            raise UsageError(f"--bucket {bucket}: it is of no dataset by name; give --labels FILE with --target COLUMN")
        return labels_of_record(record, (), options.runs, official=options.official_splits)

    if options.store is not None or options.bucket is None:
        return with_stored_labels(options, (options.store,) if options.store else (), tell)
    return with_stored_labels(options, (options.bucket,), tell, find)
