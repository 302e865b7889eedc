"""The critical-difference diagram (Demsar 2006): mean ranks on a line, and bars over what is not shown to differ."""

import matplotlib as mpl
from matplotlib.figure import Figure

from classify.comparing.ranks import NoRanks, Ranks
from reports.figures import COLOURS, INK, STYLE, to_data_uri
from reports.pictures import Picture


def picture_ranks(head: str, found: Ranks | NoRanks, phantom: bool) -> Picture | None:
    """Draw the ranks of the encoders with one head; None where there are none."""
    if isinstance(found, NoRanks):
        return None
    ranks, reach = found.ranks, found.critical_difference
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.5, 1.2 + 0.42 * len(ranks) + 0.16 * len(found.groups)), layout="constrained")
        axes = figure.subplots()
        for place, (name, rank) in enumerate(ranks.items()):
            axes.plot([rank, rank], [0, -1 - place], color="#c4c4c4", linewidth=1, zorder=0)
            axes.plot(rank, -1 - place, "o", color=COLOURS[0])
            axes.annotate(f"{name}  {rank:.2f}", (rank, -1 - place), (8, 0), textcoords="offset points", va="center")
        for level, group in enumerate(found.groups):
            ends = [ranks[name] for name in group]
            height = 0.45 + 0.35 * level
            axes.plot([min(ends) - 0.02, max(ends) + 0.02], [height] * 2, color=INK, linewidth=4)
        top = 1.0 + 0.35 * len(found.groups)
        axes.plot([1, 1 + reach], [top] * 2, color=COLOURS[1], linewidth=2)
        axes.annotate(f"critical difference {reach:.2f}", (1, top), (0, 5), textcoords="offset points")
        axes.set_xlim(0.8, max(len(ranks), 1 + reach) + 1.2)
        axes.set_ylim(-len(ranks) - 0.7, top + 0.9)
        axes.set_xticks(range(1, len(ranks) + 1))
        axes.set_xlabel("mean rank (1 is best)")
        axes.get_yaxis().set_visible(False)
        axes.spines["left"].set_visible(False)
        uri = to_data_uri(figure, phantom)
    said = "; ".join(f"{name} {rank:.2f}" for name, rank in ranks.items())
    alike = "; ".join(" and ".join(group) for group in found.groups) or "none"
    return Picture(
        f"critical-difference-{head}", f"Mean ranks, head {head}.",
        f"Over {len(found.datasets)} datasets. Black bars join encoders that are not shown to differ.",
        f"Mean ranks: {said}. Critical difference {reach:.2f}. Not shown to differ: {alike}.", uri,
    )  # fmt: skip
