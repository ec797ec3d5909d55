"""The figures of the report, each made from the runs of one pod list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simulator.curves import LAST_BIN, BinValues, Curve, Floats
from simulator.report.palette import INK, MUTED, PAPER, look
from simulator.report.svg import Drawing, house_style, to_drawing
from simulator.result import RunResult
from simulator.summary import stat

SIZE_IN = (5.4, 3.6)
FIRST_SHOWN_PCT = 70
"""The allocation curves start here: before, every policy serves everything that arrives."""

LABEL_GAP = 0.055
"""Least distance of two labels at the right edge, as a share of the axis."""

SAMPLE = (1.012, 1.066)
"""Where the sample of a line beside its label starts and ends, as shares of the axis."""


def allocation(name: str, runs: Sequence[RunResult], chosen: str) -> Drawing:
    """Draw allocated GPUs against arrived demand, a line per policy, and its range over seeds."""
    with house_style(f"{name}-allocation"):
        figure, axes = _axes("demand arrived, % of GPUs", "allocated, % of GPUs")
        x = np.arange(FIRST_SHOWN_PCT, LAST_BIN + 1)
        axes.plot(x, np.minimum(x, 100), color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        lines = _curves(axes, runs, chosen, lambda curve: curve.allocated_pct, FIRST_SHOWN_PCT)
        low = min((float(np.nanmin(line)) for line in lines.values() if not np.isnan(line).all()), default=0.0)
        axes.set_ylim(min(low, FIRST_SHOWN_PCT), 101)
        axes.axvline(100, color=MUTED, linewidth=0.8)
        _label_ends(axes, lines, chosen)
        caption = (
            "Allocated GPUs as demand grows; the dotted line is a cluster that serves everything until it is full. "
            "Bands span the seeds."
        )
        return to_drawing(figure, "Allocation", caption)


def fragmentation(name: str, runs: Sequence[RunResult], chosen: str) -> Drawing:
    """Draw fragmented GPUs (idle, but of no use to the pods that typically come) against arrived demand."""
    with house_style(f"{name}-fragmentation"):
        figure, axes = _axes("demand arrived, % of GPUs", "fragmented, % of GPUs")
        lines = _curves(axes, runs, chosen, lambda curve: curve.fragmented_pct, 0)
        axes.set_ylim(bottom=0)
        axes.axvline(100, color=MUTED, linewidth=0.8)
        _label_ends(axes, lines, chosen)
        caption = "GPU capacity that is idle but too broken up for the pods that typically come. Lower is better."
        return to_drawing(figure, "Fragmentation", caption)


def idle_ratio(name: str, runs: Sequence[RunResult], chosen: str) -> Drawing:
    """Draw which share of the idle GPUs is fragmented against arrived demand."""
    with house_style(f"{name}-idle-ratio"):
        figure, axes = _axes("demand arrived, % of GPUs", "fragmented, % of idle GPUs")
        lines = _curves(axes, runs, chosen, lambda curve: curve.frag_ratio_pct, 0)
        axes.set_ylim(0, 101)
        axes.axvline(100, color=MUTED, linewidth=0.8)
        _label_ends(axes, lines, chosen)
        caption = (
            "Of the GPUs that are idle, the share that is too broken up for the pods that typically come. Where a line "
            "touches the top, every GPU still idle is."
        )
        return to_drawing(figure, "Fragmented share of idle GPUs", caption)


def seeds(name: str, runs: Sequence[RunResult], chosen: str) -> Drawing:
    """Draw what stays unallocated at 100 % demand: a dot per seed, a tick at the mean, best policy on top."""
    groups = {policy: [run.unallocated_pct_at_100 for run in _of(runs, policy)] for policy in _policies(runs)}
    known = {policy: (mean, values) for policy, values in groups.items() if (mean := stat(values))}
    order = sorted(known, key=lambda policy: -known[policy][0].mean)
    with house_style(f"{name}-seeds"):
        figure = Figure(figsize=(SIZE_IN[0], 0.95 + 0.3 * len(order)), layout="constrained")
        axes = figure.add_subplot()
        for row, policy in enumerate(order):
            mean, values = known[policy]
            colour = look(policy, chosen).marker
            axes.scatter(np.array(values, dtype=float), np.full(len(values), row), s=20, color=colour, alpha=0.45, lw=0)
            axes.plot([mean.mean] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.2)
            axes.annotate(f"{mean.mean:.2f}", (mean.high, row), (7, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(order)), order)
        for label in axes.get_yticklabels():
            label.set_color(INK)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(left=0)
        axes.margins(x=0.14, y=0.5 / max(len(order), 1))
        axes.set_xlabel("unallocated at 100 % demand, % of GPUs")
        caption = "Each dot is one order of arrival (seed), the tick their mean. Further left is better."
        return to_drawing(figure, "Unallocated GPUs per seed", caption)


def occupancy(name: str, run: RunResult) -> Drawing:
    """Draw how each pool of like nodes filled up in one run: dark is empty, bright is full."""
    with house_style(f"{name}-{run.policy}-occupancy"):
        figure = Figure(figsize=(SIZE_IN[0], 1.25 + 0.24 * len(run.pools)), layout="constrained")
        axes = figure.add_subplot()
        image = np.array([_numbers(pool.allocated_pct) for pool in run.pools])
        extent = (-0.5, LAST_BIN + 0.5, len(run.pools) - 0.5, -0.5)
        drawn = axes.imshow(image, cmap="cividis", vmin=0, vmax=100, aspect="auto", interpolation="none", extent=extent)
        axes.set_yticks(range(len(run.pools)), [f"{pool.pool} ({pool.nodes})" for pool in run.pools])
        for label in axes.get_yticklabels():
            label.set_color(INK)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False)
        axes.axvline(100, color=PAPER, linewidth=0.8)
        axes.set_xlabel("demand arrived, % of GPUs")
        bar = figure.colorbar(drawn, ax=axes, location="top", fraction=0.06, aspect=40, pad=0.01)
        bar.set_label(f"{run.policy}: GPUs of the pool allocated, %")
        bar.outline.set_visible(False)
        caption = (
            f"How each pool of like nodes filled up under {run.policy} (seed {run.seed}); the number of nodes in "
            "brackets, largest pool on top. A row that stays dark at the right is capacity nobody could use."
        )
        return to_drawing(figure, f"Occupancy under {run.policy}", caption)


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure, axes


def _curves(
    axes: Axes, runs: Sequence[RunResult], chosen: str, values: Callable[[Curve], BinValues], start: int
) -> dict[str, Floats]:
    """Plot mean and range over seeds per policy from bin `start` on; return the means, the chosen one drawn last."""
    lines: dict[str, Floats] = {}
    x = np.arange(start, LAST_BIN + 1)
    for policy in sorted(_policies(runs), key=lambda policy: policy == chosen):
        drawn = np.array([_numbers(values(run.curve))[start:] for run in _of(runs, policy)])
        seen = ~np.isnan(drawn).all(axis=0)
        style = look(policy, chosen)
        mean = np.full(len(x), np.nan)
        mean[seen] = np.nanmean(drawn[:, seen], axis=0)
        if len(drawn) > 1:
            low, high = np.nanmin(drawn[:, seen], axis=0), np.nanmax(drawn[:, seen], axis=0)
            axes.fill_between(x[seen], low, high, color=style.marker, alpha=0.16, linewidth=0)
        axes.plot(x[seen], mean[seen], color=style.marker, linestyle=style.dash, linewidth=style.width_pt)
        lines[policy] = mean
    axes.set_xlim(start, LAST_BIN)
    return lines


def _label_ends(axes: Axes, lines: dict[str, Floats], chosen: str) -> None:
    """Write each policy's name beside the end of its line, pushed apart where lines end close together."""
    low, high = axes.get_ylim()
    ends = {policy: float(line[~np.isnan(line)][-1]) for policy, line in lines.items() if not np.isnan(line).all()}
    order = sorted(ends, key=ends.__getitem__)
    wished = [(ends[policy] - low) / (high - low) for policy in order]
    for policy, height in zip(order, spaced(wished, LABEL_GAP), strict=True):
        style = look(policy, chosen)
        # Beside the name a piece of its line: some policies share a colour and differ by their dashes only.
        axes.plot(
            SAMPLE, [height] * 2, transform=axes.transAxes, clip_on=False,
            color=style.marker, linestyle=style.dash, linewidth=style.width_pt,
        )  # fmt: skip
        weight = "bold" if policy == chosen else "normal"
        axes.annotate(
            policy, (1.075, height), xycoords="axes fraction", color=style.marker, va="center", weight=weight, size=9.5
        )


def spaced(wished: Sequence[float], gap: float) -> list[float]:
    """Return positions at least `gap` apart, near the ascending `wished` ones and, if they fit, within 0 to 1."""
    placed: list[float] = []
    for position in wished:
        placed.append(max(position, placed[-1] + gap) if placed else max(position, 0.0))
    ceiling = 1.0
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed


def _numbers(values: BinValues) -> Floats:
    return np.array([np.nan if value is None else value for value in values])


def _policies(runs: Sequence[RunResult]) -> list[str]:
    return list(dict.fromkeys(run.policy for run in runs))


def _of(runs: Sequence[RunResult], policy: str) -> list[RunResult]:
    return [run for run in runs if run.policy == policy]
