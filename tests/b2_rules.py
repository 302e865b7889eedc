"""What Backblaze B2 refuses of the S3 protocol, for tests against servers that are more patient."""

from typing import Any


def refuse_what_b2_refuses(request: Any, **_: Any) -> None:
    """Fail on checksum headers, chunked uploads and conditional writes; a handler of botocore's before-send.s3."""
    headers = {name.lower(): str(value) for name, value in request.headers.items()}
    assert not [name for name in headers if name.startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer"))]
    assert "aws-chunked" not in headers.get("content-encoding", "")
    assert request.method not in {"PUT", "POST"} or not {"if-match", "if-none-match"} & headers.keys()
