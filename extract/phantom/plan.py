"""What to generate: every option of the command, parsed once."""

from collections.abc import Sequence
from dataclasses import dataclass

from embeddings_store.errors import UsageError
from embeddings_store.schema import Eye
from extract.phantom.dicom_file import SYNTAXES
from extract.phantom.effect import SECTORS, Thinning
from extract.phantom.participants import Participant
from extract.phantom.render import Appearance
from extract.phantom.scanners import DEFAULT_PROTOCOLS, PROTOCOLS, SCANNERS, Protocol
from extract.phantom.tables import ID_COLUMN, Schema

EYES = (Eye.RIGHT, Eye.LEFT)
CONFOUNDS = ("site", "device")

SITE_LOOKS = {"UW": Appearance(2.5, 1.10), "UCSD": Appearance(0.0, 1.0), "UAB": Appearance(-2.5, 0.90)}
"""The site confound: how much brighter (dB) and more contrasted the pictures of a site are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One bucket to make; equal plans give equal bytes."""

    participants: int
    protocols: tuple[str, ...]
    scale: float
    syntax: str
    thinning: Thinning
    confound: str | None
    schema: Schema
    manifest: bool
    breaks: tuple[str, ...]
    seed: int
    measurements: bool = False

    def protocol(self, name: str) -> Protocol:
        """Give a protocol at the plan's scale."""
        return PROTOCOLS[name].scaled(self.scale)

    def look(self, person: Participant) -> Appearance:
        """Tell how a participant's pictures are shifted: not at all, unless the site confound was asked for."""
        return SITE_LOOKS[person.site] if self.confound == "site" else Appearance()

    def protocols_of(self, person: Participant) -> tuple[str, ...]:
        """Tell which protocols a participant has: all of them, unless the device confound was asked for.

        Then classes 0 and 1 keep the first half of the devices and classes 2 and 3 the second half; three in ten
        participants (by id) keep all.
        """
        if self.confound != "device" or int(person.id) % 10 < 3:
            return self.protocols
        devices = [device for device in SCANNERS if any(PROTOCOLS[p].device == device for p in self.protocols)]
        half = len(devices) // 2
        kept = devices[:half] if person.class_index < 2 else devices[half:]
        return tuple(name for name in self.protocols if PROTOCOLS[name].device in kept)


def parse_plan(
    *,
    participants: int,
    devices: Sequence[str],
    protocols: Sequence[str],
    scale: float,
    syntax: str,
    effect_um: float,
    effect_sector: str | None,
    confound: str | None,
    schema: str,
    manifest: bool,
    breaks: Sequence[str],
    kinds: Sequence[str],
    seed: int,
    measurements: bool = False,
) -> Plan:
    """Check every option. Raises: UsageError, which names the option, what was expected and what came."""
    _one_of("--syntax", syntax, SYNTAXES)
    _one_of("--schema", schema, tuple(ID_COLUMN))
    if confound is not None:
        _one_of("--confound", confound, CONFOUNDS)
    if not 0 < scale <= 1:
        raise UsageError(f"--scale: expected a number above 0 and up to 1, got {scale}")
    if seed < 0:
        raise UsageError(f"--seed: expected 0 or more, got {seed}")
    chosen = _protocols(devices, protocols)
    if confound == "device" and len({PROTOCOLS[name].device for name in chosen}) < 2:
        raise UsageError(
            "--confound device: expected at least two devices to tie to the label, got one; add to --devices"
        )
    return Plan(
        participants, chosen, scale, syntax, _thinning(effect_um, effect_sector), confound,
        "v3" if schema == "v3" else "v2", manifest, _kinds(breaks, kinds), seed, measurements,
    )  # fmt: skip


def _protocols(devices: Sequence[str], protocols: Sequence[str]) -> tuple[str, ...]:
    for device in devices:
        _one_of("--devices", device, tuple(SCANNERS))
    wanted = tuple(PROTOCOLS) if list(protocols) == ["all"] else tuple(protocols) or DEFAULT_PROTOCOLS
    for name in wanted:
        _one_of("--protocols", name, tuple(PROTOCOLS))
    chosen = tuple(name for name in PROTOCOLS if name in wanted and (not devices or PROTOCOLS[name].device in devices))
    if unused := [d for d in devices if d not in {PROTOCOLS[name].device for name in chosen}]:
        raise UsageError(f"--devices: none of the protocols asked for belongs to {unused[0]}; add one to --protocols")
    return chosen


def _thinning(step_um: float, sector: str | None) -> Thinning:
    if not 0 <= step_um <= 20:
        raise UsageError(f"--effect: expected 0 to 20 um a class step (the layers are about 60 um), got {step_um}")
    if sector is not None:
        _one_of("--effect-sector", sector, SECTORS)
        if step_um == 0:
            raise UsageError("--effect-sector: expected --effect UM with it, got none; without it nothing is thinned")
    return Thinning(step_um, sector)


def _kinds(breaks: Sequence[str], kinds: Sequence[str]) -> tuple[str, ...]:
    if list(breaks) == ["all"]:
        return tuple(kinds)
    for kind in breaks:
        _one_of("--break", kind, ("all", *kinds))
    if "all" in breaks:
        raise UsageError("--break: expected all or a list of kinds, got both")
    return tuple(kind for kind in kinds if kind in breaks)


def _one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{option}: expected one of {', '.join(allowed)}; got {value!r}")
