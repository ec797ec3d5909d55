"""The functions themselves, by overload; `ANY_OVERLOAD` those that tell their arguments apart by themselves."""

from __future__ import annotations

from collections.abc import Callable

from kube.cel.lib import formats, lists, net, operators, optionals, quantity, regex, semver, text, time, urls
from kube.cel.values import Value

Run = Callable[..., Value]

_MODULES = (operators, optionals, text, regex, lists, time, quantity, semver, net, urls, formats)
BY_OVERLOAD: dict[str, Run] = {name: run for module in _MODULES for name, run in module.BY_OVERLOAD.items()}
ANY_OVERLOAD: dict[str, Run] = {**operators.ANY_OVERLOAD, **lists.ANY_OVERLOAD, **regex.ANY_OVERLOAD}
NON_STRICT: dict[str, Run] = {"@not_strictly_false": operators.not_strictly_false}
PREPARED: dict[str, Callable[[str], Run]] = regex.PREPARED
"""Functions whose second argument, where it is a constant, is prepared once."""
