"""Opaque parameters -> GpuConfig, or a PermanentError that names the path and what would be right. Strict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec
from msgspec import UNSET

from dra_driver.config.explain import remedy
from dra_driver.config.model import Settings, Strategy
from dra_driver.config.schema import GpuConfig, Mps, SharingTerms, TimeSlicing
from dra_driver.errors import PermanentError
from kube.depth import MAX_DEPTH, too_deep
from kube.linkwish import Link, link_terms
from kube.quantity import parse_quantity
from packing.dra.model import NANO

MAX_BYTES = 10 * 1024
"""As the API server allows for opaque parameters (resource/v1 OpaqueParametersMaxLength)."""
MIB = 1 << 20
MAX_SHOWN = 160

# Made before there are threads: two that meet a type for the first time at once crash the process (msgspec 0.22).
msgspec.json.Decoder(GpuConfig)

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


class ConfigError(PermanentError):
    """A configuration that will never do: `path` as in `$.sharing.strategy`, the problem, the remedy."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        self.path = shown(path)
        self.problem = shown(problem)
        self.remedy = remedy
        super().__init__(f"{self.path}: {self.problem}; {remedy}")


def parse(parameters: object) -> GpuConfig:
    """Return the configuration that opaque parameters hold. Raises ConfigError."""
    _check_bounds(parameters)
    try:
        config = msgspec.convert(parameters, GpuConfig)
    except (ValueError, OverflowError) as fault:
        raise _explained(str(fault)) from fault
    if config.link is not UNSET:
        _check_link(config.link)
    if config.sharing is not UNSET:
        _check_sharing(config.sharing)
    return config


def settings(sharing: SharingTerms) -> Settings:
    """Return what a `sharing` comes to; sizes are whole MiB, rounded down, since they are limits."""
    mps = sharing.mps or Mps()
    threads, limit = mps.active_thread_percentage, mps.pinned_memory_limit
    return Settings(
        strategy=sharing.strategy,
        interval=(sharing.time_slicing or TimeSlicing()).interval,
        active_thread_percentage=threads or None,
        pinned_memory_bytes=parse_quantity(limit) // (NANO * MIB) * MIB if limit else None,
    )


def shown(text: str) -> str:
    """Return a user's text on one line, printable and short, for a message."""
    line = " ".join(text.split())
    line = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line[: MAX_SHOWN + 1])
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def _check_bounds(parameters: object) -> None:
    if too_deep(parameters):
        raise ConfigError("$", f"is nested deeper than {MAX_DEPTH} levels", remedy("$"))
    for path, problem in _not_json(parameters, "$"):
        raise ConfigError(path, problem, "write what JSON can say")
    size = len(msgspec.json.encode(parameters))
    if size > MAX_BYTES:
        raise ConfigError("$", f"is {size} bytes long", f"the API takes at most {MAX_BYTES}")


def _not_json(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield what JSON has no word for: YAML and Python can hold it."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str) or _has_surrogates(key):
                yield path, f"has a key {key!a} that is no text"
                return
            yield from _not_json(each, f"{path}.{key}")
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _not_json(each, f"{path}[{at}]")
    elif isinstance(value, str):
        if _has_surrogates(value):
            yield path, "has half of a surrogate pair"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"is {value}"
    elif value is not None and not isinstance(value, bool | int):
        yield path, f"is a {type(value).__name__}"


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= each <= "\udfff" for each in text)


def _explained(fault: str) -> ConfigError:
    """Return msgspec's fault with the path of an unknown field itself, and with what would be right there."""
    problem, _, at = fault.partition(" - at ")
    path = at.strip("`") or "$"
    if unknown := _UNKNOWN.fullmatch(problem):
        return ConfigError(f"{path}.{unknown[1]}", "is no field of this version", remedy(path))
    if missing := re.fullmatch(r"Object missing required field `(.*)`", problem):
        path = f"{path}.{missing[1]}"
        return ConfigError(path, "is missing", remedy(path))
    return ConfigError(path, problem.partition(" matching regex")[0], remedy(path))


def _check_link(link: Link) -> None:
    try:
        link_terms(link)
    except ValueError as fault:
        problem, _, path = str(fault).partition(" - at ")
        raise ConfigError(path.strip("`"), problem, "write it or remove the minimum") from fault


def _check_sharing(sharing: SharingTerms) -> None:
    """Refuse settings of a strategy that was not chosen: their author expects them to hold."""
    for field, set_here, needed in (
        ("timeSlicing", sharing.time_slicing is not UNSET, Strategy.TIME_SLICING),
        ("mps", sharing.mps is not UNSET, Strategy.MPS),
    ):
        if set_here and sharing.strategy is not needed:
            problem = f"has no meaning with strategy {sharing.strategy}"
            raise ConfigError(f"$.sharing.{field}", problem, f"write `strategy: {needed}` or remove it")
