"""What the numbers mean, in sentences a planner can send on; every number comes from the rows of the summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.result import Inputs
from simulator.summary import ALL_VARIANTS, BASELINE, Row

CLOSE_PCT = 0.005
"""Differences below this, in percent of GPUs, are rounding: the table shows two digits."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure worth a glance: what it is, its value, and what to hold it against."""

    label: str
    value: str
    note: str


def verdict(row: Row | None, other: Row | None, inputs: Inputs) -> str:
    """Return the sentence at the top: what stays unused under the chosen policy, and what that is worth."""
    if row is None or row.at_100 is None:
        return "Demand did not grow through the size of the cluster in every run, so no policy was put to the test."
    mean = row.at_100.mean
    said = (
        f"Under {row.policy}, {mean:.2f} % of the GPUs stay unallocated when demand reaches the size of the cluster: "
        f"{_gpus(mean, inputs)} of {inputs.gpus:,}"
    )
    if other is None or other.at_100 is None:
        return f"{said}."
    saved = other.at_100.mean - mean
    if abs(saved) < CLOSE_PCT:
        return f"{said}, the same as under {other.policy}."
    more = "fewer" if saved > 0 else "more"
    if _gpus(abs(saved), inputs) == "0":
        return f"{said}, less than half a GPU {more} than under {other.policy}."
    return f"{said}, {_gpus(abs(saved), inputs)} {more} than under {other.policy}."


def facts(row: Row | None, other: Row | None, inputs: Inputs) -> tuple[Fact, ...]:
    """Return the few figures shown in large type under the verdict."""
    if row is None or row.at_100 is None:
        return ()
    shown = [Fact("Unallocated at 100 % demand", f"{row.at_100.mean:.2f} %", spread(row))]
    if other is not None and other.at_100 is not None:
        saved = other.at_100.mean - row.at_100.mean
        gpus = _signed_gpus(saved, inputs)
        shown.append(Fact(f"GPUs won against {other.policy}", gpus, f"{other.policy}: {other.at_100.mean:.2f} %"))
    if row.wins is not None:
        shown.append(Fact(f"Better than {BASELINE}", f"{row.wins} of {row.duels}", "runs with the same arrivals"))
    shown.append(Fact("Pods without a place", f"{row.failed:,.0f}", f"mean per run; {row.placed:,.0f} placed"))
    return tuple(shown)


def spread(row: Row) -> str:
    """Return the spread over seeds in words."""
    if row.at_100 is None:
        return ""
    if row.seeds == 1:
        return "one seed: no spread known"
    return f"{row.at_100.low:.2f} to {row.at_100.high:.2f} over {row.seeds} seeds"


def subject(rows: Sequence[Row], inputs: Inputs) -> str:
    """Return what was simulated, in one line."""
    lists = [pods.variant for pods in inputs.pods]
    what = f"pod list {lists[0]}" if len(lists) == 1 else f"{len(lists)} pod lists"
    policies = len({row.policy for row in rows})
    orders = len(inputs.seeds)
    return (
        f"{inputs.nodes:,} nodes, {inputs.gpus:,} GPUs; {what}; {policies} "
        f"{'policy' if policies == 1 else 'policies'}; {orders} {'order' if orders == 1 else 'orders'} of arrival"
    )


def label(variant: str, inputs: Inputs) -> str:
    """Return the heading of a pod list's section."""
    return f"Mean of {len(inputs.pods)} pod lists" if variant == ALL_VARIANTS else variant


def _gpus(pct: float, inputs: Inputs) -> str:
    return f"{round(pct * inputs.gpus / 100):,}"


def _signed_gpus(pct: float, inputs: Inputs) -> str:
    count = round(pct * inputs.gpus / 100)
    # U+2212 is as wide as the plus sign.
    return f"+{count:,}" if count > 0 else f"{count:,}".replace("-", "\u2212")
