"""What Backblaze B2 charges for reading, at most.

Sources, read in stored copies on LOOKED_UP (the copies themselves bear no date): for calls "Pricing Organized by API
Calls", https://www.backblaze.com/cloud-storage/transaction-pricing; for downloads the same table at its older address,
https://www.backblaze.com/b2/b2-transactions-price.html. Free allowances (2,500 calls of each class and the first GB a
day, and whatever share of the stored amount a contract lets out free) are not subtracted, and nothing is added for
retries; prices change, so look them up again before a large run.
"""

from typing import Any

LOOKED_UP = "2026-11-22"
SOURCE = "https://www.backblaze.com/cloud-storage/transaction-pricing"
DOLLARS_PER_GET = 0.004 / 10_000  # class B: GetObject
DOLLARS_PER_LIST = 0.004 / 1_000  # class C: ListObjectsV2
DOLLARS_PER_BYTE = 0.01 / 1e9  # download
HOST = "backblazeb2.com"


def price_reading(
    endpoint_url: str | None, *, get_requests: int, list_requests: int, size_bytes: int
) -> dict[str, Any]:
    """Give the most that a run can cost in US dollars, or why that is not known."""
    if HOST not in (endpoint_url or ""):
        return {"absent": "prices are known for Backblaze B2 endpoints only"}
    requests = get_requests * DOLLARS_PER_GET + list_requests * DOLLARS_PER_LIST
    download = size_bytes * DOLLARS_PER_BYTE
    return {
        "at_most": round(requests + download, 2),
        "requests": round(requests, 4),
        "download": round(download, 2),
        "looked_up": LOOKED_UP,
        "source": SOURCE,
    }
