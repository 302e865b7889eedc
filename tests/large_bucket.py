"""A bucket of 25,000 one-byte volumes over four devices and 1,061 participants: what a listing costs."""

from pathlib import Path

from extract.phantom.scanners import PROTOCOLS

VOLUMES = 25_000
PARTICIPANTS = 1_061
DEVICES = sorted({protocol.device for protocol in PROTOCOLS.values()})
PAGES = 26  # of 1,000: the volumes and participants.tsv


def participant(number: int) -> str:
    """Spread people over the three sites."""
    return f"{'147'[number % 3]}{number // 3 + 1:03d}"


def make_large_bucket(root: Path, volumes: int = VOLUMES) -> None:
    """Write one byte a volume; each participant has every device, and both eyes."""
    for number in range(volumes):
        turn, person = divmod(number, PARTICIPANTS)
        device, who = DEVICES[turn % len(DEVICES)], participant(person)
        protocol = next(protocol.name for protocol in PROTOCOLS.values() if protocol.device == device)
        path = (
            root / f"retinal_oct/structural_oct/{device}/{who}/{who}_{protocol}_oct_{'lr'[turn % 2]}_1.2.{number}.dcm"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    lines = [f"{participant(number)}\ttrain\tTRUE" for number in range(PARTICIPANTS)]
    (root / "participants.tsv").write_text("\n".join(["person_id\trecommended_split\tretinal_oct", *lines]))
