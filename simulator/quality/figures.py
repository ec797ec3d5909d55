"""The figures of the quality page, in the style of the simulation report."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.quality.lines import Line
from simulator.quality.runs import Figure as Measure
from simulator.quality.suite import OURS
from simulator.report.palette import INK, look
from simulator.report.svg import Drawing, house_style, to_drawing

SIZE_IN = (5.4, 3.6)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
"""One shape per peer: those that share a colour are told apart without it. Ours is a star."""
SHOWN_PCT = 12.0
"""Policies that accept this much less than the best lie off the scale: they would squeeze all others into a corner."""


def trade(lines: Sequence[Line]) -> Drawing:
    """Draw ideal % against accepted % in one cell of suite L: a mark per policy, crosses are standard errors."""
    suite, scenario, load = lines[0].cell
    least = max(line.figures["accepted_pct"].mean for line in lines) - SHOWN_PCT
    off = [line.policy for line in lines if line.figures["accepted_pct"].mean < least]
    with house_style(f"{suite}-{scenario}-{load}"):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        for at, line in enumerate(lines):
            if line.policy in off:
                continue
            accepted, ideal = line.figures["accepted_pct"], line.figures["ideal_pct"]
            axes.errorbar(
                accepted.mean,
                ideal.mean,
                xerr=accepted.error,
                yerr=ideal.error,
                color=look(line.policy, OURS).marker,
                marker=_marker(line.policy, at),
                markersize=13 if line.policy == OURS else 6,
                linestyle="none",
                label=line.policy,
                elinewidth=0.8,
            )
        axes.set_xlabel("accepted GPU time, % of offered")
        axes.set_ylabel("jobs on an ideal set, %")
        axes.margins(0.08)
        _legend(axes)
        caption = f"Cluster {scenario} at load {load}: jobs of several GPUs that got the best set their product has, "
        caption += "against the work accepted. Up and to the right is better."
        caption += f" Off the scale to the left: {', '.join(off)}." if off else ""
        return to_drawing(figure, f"Cluster {scenario}, load {load}", caption)


def bars(lines: Sequence[Line], measure: Measure, axis: str, scenario: str, *, logarithmic: bool = False) -> Drawing:
    """Draw one figure of a cell, a bar per policy, best on top; `axis` and `scenario` in words.

    `logarithmic` (above 1) is for figures that differ by powers of ten.
    """
    suite, _, load = lines[0].cell
    name = measure.key
    order = sorted(lines, key=lambda line: line.figures[name].mean, reverse=measure.less_is_better)
    with house_style(f"{suite}-{scenario}-{load}-{name}"):
        figure = Figure(figsize=(SIZE_IN[0], 0.95 + 0.26 * len(order)), layout="constrained")
        axes = figure.add_subplot()
        for row, line in enumerate(order):
            value = line.figures[name]
            axes.barh(row, value.mean, height=0.62, xerr=value.error, color=look(line.policy, OURS).marker, ecolor=INK)
            weight = "bold" if line.policy == OURS else "normal"
            axes.annotate(
                f"{value.mean:.{min(measure.digits, 3)}f}",
                (value.mean + value.error, row),
                (5, 0),
                textcoords="offset points",
                va="center",
                weight=weight,
            )
        least = min(line.figures[name].mean for line in order)
        most = max(line.figures[name].mean for line in order)
        start = 0.0 if logarithmic else max(0.0, least - 0.35 * (most - least) - 0.001)
        if logarithmic:
            axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlim(start, 8 * most + 1 if logarithmic else most + 0.2 * (most - least) + 0.001)
        axes.set_yticks(range(len(order)), [line.policy for line in order])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(axis)
        where = f"{scenario} at load {load}" if load else scenario
        caption = f"{axis[0].upper()}{axis[1:]}; {where}."
        caption += " Linear up to 1, logarithmic above." if logarithmic else ""
        caption += " The axis does not start at 0." if start else ""
        return to_drawing(figure, f"{suite}, {where}", caption)


def by_kind(lines: Sequence[Line], measures: Sequence[Measure], axis: str, kinds: str) -> Drawing:
    """Draw one figure of a cell for several kinds of job, a line per policy; the scale is logarithmic above 1."""
    suite, scenario, load = lines[0].cell
    with house_style(f"{suite}-{scenario}-{load}-by-kind"):
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        axes = figure.add_subplot()
        for at, line in enumerate(lines):
            drawn = look(line.policy, OURS)
            axes.plot(
                range(len(measures)),
                [line.figures[measure.key].mean for measure in measures],
                color=drawn.marker,
                linestyle=drawn.dash,
                linewidth=drawn.width_pt,
                marker=_marker(line.policy, at),
                markersize=5,
                label=line.policy,
            )
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylim(bottom=0.0)
        axes.set_xticks(range(len(measures)), [measure.head.removesuffix(" s") for measure in measures])
        axes.set_xlabel(kinds)
        axes.set_ylabel(axis)
        _legend(axes)
        caption = f"{axis[0].upper()}{axis[1:]}, by {kinds}, at load {load}. Linear up to 1, logarithmic above."
        return to_drawing(figure, f"{suite} by {kinds}, load {load}", caption)


def marks(cells: Sequence[Sequence[Line]], measure: Measure, axis: str, caption: str) -> Drawing:
    """Draw one figure of all cells of a suite, a column per scenario and a mark per policy."""
    with house_style(f"{cells[0][0].suite}-{measure.key}"):
        figure = Figure(figsize=(2 * SIZE_IN[0], SIZE_IN[1]), layout="constrained")
        axes = figure.add_subplot()
        for at, policy in enumerate(dict.fromkeys(line.policy for lines in cells for line in lines)):
            found = [(x, line) for x, lines in enumerate(cells) for line in lines if line.policy == policy]
            axes.errorbar(
                [x for x, _ in found],
                [line.figures[measure.key].mean for _, line in found],
                yerr=[line.figures[measure.key].error for _, line in found],
                color=look(policy, OURS).marker,
                marker=_marker(policy, at),
                markersize=11 if policy == OURS else 6,
                linestyle="none",
                label=policy,
                elinewidth=0.8,
            )
        axes.set_xticks(range(len(cells)), [lines[0].scenario for lines in cells], rotation=30, ha="right")
        axes.set_ylim(bottom=0.0)
        axes.set_ylabel(axis)
        _legend(axes)
        return to_drawing(figure, f"{cells[0][0].suite}, {axis}", caption)


def _marker(policy: str, at: int) -> str:
    return "*" if policy == OURS else MARKERS[at % len(MARKERS)]


def _legend(axes: Axes) -> None:
    """Name the marks beside the axes: inside, some policy always lies beneath."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5, frameon=False, labelcolor=INK)
