"""What a person should know about a bucket before believing its embeddings: counts, never names."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from embeddings_store.schema import Eye
from extract.bucket.catalogue import MAX_AGE_S, Catalogue
from extract.layouts.ai_readi import names_protocol
from extract.layouts.contract import Skip

JUNK = (Skip.HIDDEN, Skip.EMPTY, Skip.NOT_DICOM, Skip.LAYOUT)
_EYES = {str(Eye.LEFT), str(Eye.RIGHT)}


def report_bucket(catalogue: Catalogue) -> dict[str, Any]:
    """Count what does not fit together. A count is None where the table that it needs is absent."""
    listing, record = catalogue.listing, catalogue.record
    with_files = {ref.participant for ref in listing.refs}
    enrolled = {person.participant for person in record.participants}
    promised = {person.participant for person in record.participants if person.has_oct}
    scans = Counter((ref.participant, ref.eye, ref.protocol, ref.device) for ref in listing.refs)
    objects = {info.key for info in record.objects}
    said = [(ref, catalogue.lines[ref.key].eye) for ref in listing.refs if ref.key in catalogue.lines]
    tables = bool(record.participants)
    return {
        "participants_with_files": len(with_files),
        "promised_without_files": len(promised - with_files) if tables else None,
        "files_without_promise": len((with_files & enrolled) - promised) if tables else None,
        "files_without_participant": sum(ref.participant not in enrolled for ref in listing.refs) if tables else None,
        "duplicate_scans": sum(count - 1 for count in scans.values()),
        "laterality_disagreements": sum(eye in _EYES and eye != ref.eye for ref, eye in said) if said else None,
        "in_manifest_only": len(catalogue.lines.keys() - objects) if record.manifest is not None else None,
        "not_in_manifest": len(listing.refs) - len(said) if record.manifest is not None else None,
        "unknown_protocols": dict(Counter(ref.protocol for ref in listing.refs if not names_protocol(ref))),
        "junk": sum(listing.skipped.get(reason.value, 0) for reason in JUNK),
    }


_AMISS = {
    "promised_without_files": "participants flagged with OCT but without files",
    "files_without_promise": "participants with files but not flagged with OCT",
    "files_without_participant": "files of nobody in participants.tsv",
    "duplicate_scans": "repeated scans of one eye, device and protocol",
    "laterality_disagreements": "files that name another eye than the manifest",
    "in_manifest_only": "files of the manifest that are not in the bucket",
    "not_in_manifest": "files that are not in the manifest",
    "junk": "junk objects",
}


def describe_report(
    report: Mapping[str, Any], age_s: float, *, from_cache: bool, replaced_age_s: float | None = None
) -> str:
    """Say it in a short paragraph: how old the look is, and the kept one that it replaced, then only what is amiss."""
    amiss = [f"{text} {report[name]:,}" for name, text in _AMISS.items() if report[name]]
    amiss += [f"unknown protocol {name} {count:,}" for name, count in sorted(report["unknown_protocols"].items())]
    age = "listed now"
    if from_cache:
        age = f"listed {_age(age_s)} ago (listed anew after {_age(MAX_AGE_S)}, or with --refresh)"
    elif replaced_age_s is not None:
        age = f"listed anew, as the kept listing was {_age(replaced_age_s)} old"
    return f"bucket {age}; {'; '.join(amiss) or 'its tables and files agree'}"


def _age(age_s: float) -> str:
    for unit, seconds in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if age_s >= 2 * seconds:
            return f"{age_s / seconds:.0f} {unit}"
    return f"{age_s:.0f} seconds"
