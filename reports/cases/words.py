"""What a case page says below the bars and maps of a scan, by what explained it."""

from collections.abc import Mapping
from dataclasses import dataclass

from reports.anatomy.regions import Regions
from reports.attribution.encoder_evidence import LAST_BLOCKS, RANDOM_ORDERS, EncoderEvidence
from reports.attribution.faithfulness import Curves
from reports.attribution.volume import VolumeEvidence
from reports.cases.scans import Bar, Evidence, region_bars
from reports.headline import number


@dataclass(frozen=True)
class Told:
    """The bars of one scan and the words beside them.

    value: what the bars measure. columns: further numbers of each region, by their heads. below, below_bands: what
    stands under the bars of regions and of thirds of the depth. checks: does the map tell what was read?
    """

    value: str
    bars: list[Bar]
    bands: list[Bar]
    columns: Mapping[str, list[str]]
    below: str
    below_bands: str
    checks: str
    painted: str


ROWS = "Thirds of the image’s depth: rows of the picture, not layers of the retina."


def tell(evidence: Evidence) -> Told:
    """Put an explanation into words."""
    return _tell_probe(evidence) if isinstance(evidence, VolumeEvidence) else _tell_encoder(evidence)


def _tell_probe(evidence: VolumeEvidence) -> Told:
    found, target = evidence.regions, evidence.target
    bars = region_bars(found.regions, found.share[:, target])
    base = float(found.base[target])
    whole = base + sum(bar.value for bar in bars)
    said = f"Base value (an average scan) {number(base, True)} + shares = {number(whole, True)}."
    checks = (
        f"{_beats(found.curves, 'random orders')} Rank agreement with a model fitted on permuted labels: "
        f"{_flat(found.agreement['permuted labels'])}; with shuffled channels: "
        f"{_flat(found.agreement['shuffled channels'])} (near 1 would mean that the map does not depend on what was "
        f"learned). Stored tokens are rounded: the evidence moves by at most {number(evidence.rounding)}."
    )
    bands = region_bars(evidence.bands.regions, evidence.bands.share[:, target])
    return Told(
        "Share", bars, bands, {}, f"{_centred(found.regions)} {said}{_empty(found.regions)}", ROWS, checks,
        _painted_by_probe(evidence),
    )  # fmt: skip


def _painted_by_probe(evidence: VolumeEvidence) -> str:
    if evidence.tokens is not None:
        return "The map shows the exact share of each token."
    if evidence.looked is None:
        return "This head cannot be split over single tokens: each region’s share is spread evenly over its tokens."
    said = ", ".join(f"{name} {_flat(value)}" for name, value in evidence.looked.agreement.items())
    return (
        "Attention says where the head looked, gradient times token is a first-order shortcut. Rank agreement of each "
        f"with the exact shares of regions: {said}."
    )


def _tell_encoder(evidence: EncoderEvidence) -> Told:
    found, regions = evidence.found, evidence.en_face
    held = [place for place, name in enumerate(regions.names) if name not in regions.empty]
    columns = {
        title: [number(float(found.by_region[name][place])) for place in held]
        for name, title in (("cam", "Grad-CAM"), ("rollout", "Rollout"))
    }
    checks = (
        f"{_beats(evidence.curves, f'{RANDOM_ORDERS} random orders')} Rank agreement of the Grad-CAM with that of the "
        f"same model whose last blocks were shuffled: {_flat(evidence.shuffled)} (near 1 would mean that the map does "
        "not depend on what was learned). A control with permuted labels is absent: the model would have to be trained "
        "again."
    )
    painted = (
        f"Painted: Grad-CAM or attention rollout through the last {LAST_BLOCKS} blocks at most, each on a scale of its "
        "own, or the occlusion of each region. Both are shortcuts; occlusion asks the model itself. Rank agreement "
        f"with occlusion over {len(held)} regions: Grad-CAM {_flat(found.agreement['cam'])}, rollout "
        f"{_flat(found.agreement['rollout'])}. Rollout is the same for every class."
    )
    below = (
        f"{_centred(regions)} Loss: what the evidence loses when a region is covered by the mean of the scan; it grows "
        "with the region’s size, and losses do not add up. Evidence of the whole scan: "
        f"{number(float(evidence.evidence[evidence.target]), True)}.{_empty(regions)}"
    )
    bars, bands = region_bars(regions, found.occlusion), region_bars(evidence.bands, evidence.band_occlusion)
    return Told("Loss", bars, bands, columns, below, ROWS, checks, painted)


def _beats(curves: Curves, orders: str) -> str:
    return (
        f"Removing regions in the order of this map changes the answer faster than {100 * curves.deletion_beats:.0f} % "
        f"of {orders} do; putting them back, faster than {100 * curves.insertion_beats:.0f} %."
    )


def _centred(regions: Regions) -> str:
    return f"Regions are centred on {regions.centred_on}."


def _empty(regions: Regions) -> str:
    return f" No token lies in: {', '.join(regions.empty)}." if regions.empty else ""


def _flat(agreement: float | None) -> str:
    return "absent, a map is flat" if agreement is None else f"{agreement:.2f}".replace("-", "−")
