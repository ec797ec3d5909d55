"""What a person writes on the command line to choose runs: seeds, policies, and the files of a folder of the trace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.inputs.arrivals import available
from topology.errors import InvalidInputError

ALL = "all"
MAX_SEEDS = 10_000
DEFAULT_SEEDS = tuple(range(42, 52))
"""The seeds of the published runs."""

_NODE_LIST = "openb_node_list_gpu_node.csv"
_POD_LIST = "openb_pod_list_{variant}.csv"
_ARRIVALS_PATTERN = "openb_arrivals_*.npz"


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """The files of one simulation. `unrecorded` pod lists have no recorded orders in their folder: none is used."""

    nodes: Path
    pods: tuple[Path, ...]
    arrivals: Path | None
    unrecorded: tuple[str, ...] = ()


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of e.g. `42-51` or `42,43,50-52`, ascending and once each. Raises InvalidInputError."""
    seeds: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MAX_SEEDS:
            raise InvalidInputError("seeds", repr(part), f"write e.g. 42,50-52 (at most {MAX_SEEDS} a range)")
        seeds.update(range(first, last + 1))
    return tuple(sorted(seeds))


def parse_policies(texts: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the policies named in `texts` (comma-separated, or `all`), in the order asked for, once each.

    Raises InvalidInputError for an unknown name.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    if ALL in names:
        return tuple(known)
    if unknown := [name for name in names if name not in known]:
        raise InvalidInputError("policy", repr(unknown[0]), f"is unknown; choose from {', '.join(known)} or {ALL}")
    return tuple(dict.fromkeys(names))


def trace_files(folder: Path, variants: Sequence[str]) -> TraceFiles:
    """Return node list, pod lists and recorded arrivals of an openb folder; `all` means every recorded variant.

    Where one of the lists has no recorded orders, all orders are to be drawn: all lists are then treated alike.
    Raises InvalidInputError if a file is missing.
    """
    arrivals = next(iter(sorted(folder.glob(_ARRIVALS_PATTERN))), None)
    recorded = available(arrivals) if arrivals else {}
    names = list(dict.fromkeys(name.strip() for text in variants for name in text.split(",")))
    if ALL in names:
        if arrivals is None:
            raise InvalidInputError(str(folder), "", f"has no {_ARRIVALS_PATTERN}; name the variants instead of {ALL}")
        names = list(recorded)
    pods = tuple(_existing(folder, _POD_LIST.format(variant=name)) for name in names)
    unrecorded = tuple(name for name in names if name not in recorded) if arrivals else ()
    return TraceFiles(_existing(folder, _NODE_LIST), pods, None if unrecorded else arrivals, unrecorded)


def choose_seeds(asked: str, arrivals: Path | None, variants: Sequence[str]) -> tuple[int, ...]:
    """Return the seeds asked for; without a wish those recorded for every variant, or the published ones.

    Raises InvalidInputError where an order of arrival is not recorded.
    """
    if arrivals is None:
        return parse_seeds(asked) if asked else DEFAULT_SEEDS
    recorded = available(arrivals)
    if missing := [variant for variant in variants if variant not in recorded]:
        problem = f"records no arrivals of {', '.join(missing)}; it has {', '.join(recorded)} (or leave the file out)"
        raise InvalidInputError(str(arrivals), "", problem)
    common = set.intersection(*(set(recorded[variant]) for variant in variants))
    seeds = parse_seeds(asked) if asked else tuple(sorted(common))
    if lacking := sorted(set(seeds) - common):
        known = ", ".join(map(str, sorted(common)))
        raise InvalidInputError(str(arrivals), "seeds", f"{lacking[0]} is not recorded; recorded are {known}")
    return seeds


def _existing(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InvalidInputError(str(folder), "", f"has neither {name} nor {name}.gz")
