"""Opens what --bucket names: a local folder or an S3 bucket."""

from pathlib import Path

from embeddings_store.addresses import require_no_credentials
from extract.bucket.folder import FolderSource
from extract.bucket.s3 import S3Source
from extract.bucket.source import Source
from extract.errors import BucketError


def open_source(
    bucket: str,
    prefix: str = "",
    endpoint_url: str | None = None,
    *,
    streams: int = 32,
    layout: object = None,
) -> Source:
    """Open a local folder, "s3://bucket/prefix" or the name of an S3 bucket; keys are relative to the prefix.

    streams: connections that are kept open. layout: the LayoutOptions by which list_volumes lists. Raises: BucketError.
    """
    folder = Path(bucket)
    if not bucket.startswith("s3://") and folder.is_dir():
        here = FolderSource(folder / prefix.strip("/"))
        here.layout = layout
        return here
    require_no_credentials(bucket, "--bucket", BucketError)
    name, _, inner = bucket.removeprefix("s3://").partition("/")
    if not name or ("/" in bucket and not bucket.startswith("s3://")):
        raise BucketError(f"bucket {bucket!r}: expected an existing folder, s3://bucket/prefix or a bucket's name")
    parts = [part.strip("/") for part in (inner, prefix)]
    far = S3Source(name, "/".join(part for part in parts if part), endpoint_url, streams=streams)
    far.layout = layout
    return far
