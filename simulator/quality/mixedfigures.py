"""The figures of suite X1: who was refused, and what each split of the nodes accepts."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from simulator.quality.lines import Line
from simulator.quality.mixeddemand import KINDS, NODES, sizes_of
from simulator.quality.mixedsplit import SPLIT_BEST, best_split, pool_key, splits
from simulator.quality.suite import OURS
from simulator.report.palette import INK, PAPER, look
from simulator.report.svg import Drawing, house_style, to_drawing

SIZE_IN = (5.4, 3.6)
KIND_LOOKS = {"whole": "fgd", "share": "best-fit", "partition": "dovetail"}
"""Kinds borrow the colours of policies, which the page sets apart for every eye."""
SHOWN_PCT = 8.0
"""Splits that accept this much less than the best lie off the scale."""
DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)))
"""One per load, for its curve and its line."""


def refusals(lines: Sequence[Line]) -> Drawing:
    """Draw the GPU-hours that each policy refused in one cell, a bar per policy, by kind (colour) and size (piece)."""
    suite, scenario, load = lines[0].cell
    pieces = {line.policy: _pieces(line) for line in lines}
    order = sorted(lines, key=lambda line: -sum(width for _, _, width in pieces[line.policy]))
    widest = max(sum(width for _, _, width in row) for row in pieces.values())
    with house_style(f"{suite}-{scenario}-{load}-refused"):
        figure = Figure(figsize=(SIZE_IN[0], 1.35 + 0.3 * len(order)), layout="constrained")
        axes = figure.add_subplot()
        for row, line in enumerate(order):
            left = 0.0
            for kind, size, width in pieces[line.policy]:
                axes.barh(
                    row,
                    width,
                    left=left,
                    height=0.66,
                    color=look(KIND_LOOKS[kind], OURS).marker,
                    edgecolor=PAPER,
                    linewidth=0.8,
                )
                if width > (0.04 + 0.0125 * len(size)) * widest:
                    axes.text(left + width / 2, row, size, ha="center", va="center", color=PAPER, fontsize=8)
                left += width
            weight = "bold" if line.policy == OURS else "normal"
            axes.annotate(
                f"{left:.2f}", (left, row), (5, 0), textcoords="offset points", va="center", color=INK, weight=weight
            )
        axes.set_xlim(0, 1.12 * widest + 0.001)
        axes.set_yticks(range(len(order)), [line.policy for line in order])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("GPU-hours refused, % of all offered")
        keys = [Patch(color=look(KIND_LOOKS[kind], OURS).marker, label=kind) for kind in KINDS]
        figure.legend(handles=keys, loc="outside upper center", ncols=3, fontsize=8.5, frameon=False, labelcolor=INK)
        caption = f"Who was refused, mix {scenario} at load {load}: GPU-hours by kind (colour) and size (pieces, small "
        caption += "to large; GPUs, profile, or the larger dimension of a share). Static splits: the best one of each "
        caption += "run, chosen afterwards."
        return to_drawing(figure, f"Refused, {scenario}, load {load}", caption)


def split_curves(cells: Sequence[Sequence[Line]]) -> Drawing | None:
    """Draw what the splits of one mix accept at each load, and beside them the mixed pool; None without splits."""
    scenario = cells[0][0].scenario
    with house_style(f"{cells[0][0].suite}-{scenario}-splits"):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        least = 100.0
        widest: list[int] = []
        for at, lines in enumerate(cells):
            by_policy = {line.policy: line for line in lines}
            split, ours = by_policy.get(SPLIT_BEST), by_policy.get(OURS)
            if split is None or ours is None:
                continue
            curve = _by_whole_nodes(split)
            dash = DASHES[at % len(DASHES)]
            axes.plot(list(curve), list(curve.values()), color=look("fgd", OURS).marker, linestyle=dash)
            accepted = ours.figures["accepted_pct"].mean
            label = f"load {split.load}: {accepted:.2f} mixed, {split.figures['accepted_pct'].mean:.2f} best split"
            axes.axhline(accepted, color=look(OURS, OURS).marker, linewidth=1.6, linestyle=dash, label=label)
            peak = max(curve.values())
            least = min(least, peak - SHOWN_PCT)
            widest += [whole for whole, value in curve.items() if value >= peak - SHOWN_PCT]
        if not widest:
            return None
        axes.set_xlim(min(widest) - 0.5, max(widest) + 0.5)
        axes.set_ylim(least, 101)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("nodes for whole GPUs alone")
        axes.set_ylabel("GPU-hours accepted, %")
        figure.legend(loc="outside lower center", fontsize=8.5, frameon=False, labelcolor=INK)
        caption = f"Static splits, mix {scenario}: the best that a split with so many nodes for whole GPUs accepts "
        caption += "(curves) against the one mixed pool (straight lines)."
        return to_drawing(figure, f"Static splits, {scenario}", caption)


def _pieces(line: Line) -> list[tuple[str, str, float]]:
    """Return kind, size and width of each piece of a bar."""
    found = ((kind, size, line.figures.get(f"refused_{kind}_{size}_pct")) for kind in KINDS for size in sizes_of(kind))
    return [(kind, size, value.mean) for kind, size, value in found if value is not None and value.mean > 0]


def _by_whole_nodes(line: Line) -> dict[int, float]:
    """Return the best that a split with so many nodes for whole GPUs accepts, percent."""
    curves = {kind: {n: line.figures[pool_key(kind, n)].mean for n in range(NODES + 1)} for kind in KINDS}
    found = {}
    for whole in range(NODES + 1):
        split = best_split(curves, [one for one in splits() if one[0] == whole])
        found[whole] = 100 - sum(curves[kind][n] for kind, n in zip(KINDS, split, strict=True))
    return found
