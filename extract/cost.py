"""What 1,000 volumes cost at the pace of a run: what the bucket charges, and the machine where its price was told."""

from collections.abc import Mapping
from typing import Any

from extract.bucket.prices import price_reading
from extract.bucket.source import TransferCounts

VOLUMES = 1000
SECONDS_PER_HOUR = 3600.0


def cost_per_1000_volumes(
    volumes: float, counts: TransferCounts, wall_s: float, endpoint_url: str | None, usd_per_hour: float | None
) -> dict[str, Any]:
    """Give US dollars by part, and under ``absent`` the reason for each part that is not known.

    volumes: how many came to an end in this run. reading: by the price list of the bucket, at most. machine: its hours.
    """
    if volumes <= 0:
        return {"absent": {"reading": "no volume was read", "machine": "no volume was read"}}
    scale = VOLUMES / volumes
    price = price_reading(
        endpoint_url,
        get_requests=round(counts.get_requests * scale),
        list_requests=round(counts.list_requests * scale),
        size_bytes=round(counts.bytes * scale),
    )
    found: dict[str, Any] = {}
    absent = {}
    if "absent" in price:
        absent["reading"] = price["absent"]
    else:
        found |= {"reading": price["at_most"], "looked_up": price["looked_up"], "source": price["source"]}
    if usd_per_hour is None:
        absent["machine"] = "say --usd-per-hour, what this machine costs"
    else:
        found["machine"] = round(usd_per_hour * wall_s / SECONDS_PER_HOUR * scale, 2)
    return found | ({"absent": absent} if absent else {})


def describe_cost(cost: Mapping[str, Any]) -> str:
    """Say what is known in a line of its own; nothing where nothing is."""
    parts = [f"${cost['reading']:,.2f} to read (prices of {cost['looked_up']})"] if "reading" in cost else []
    parts += [f"${cost['machine']:,.2f} of machine hours"] if "machine" in cost else []
    return f"\n1,000 volumes cost at most {' and '.join(parts)}" if parts else ""
