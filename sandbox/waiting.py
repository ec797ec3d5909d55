"""Waiting for a condition, with an account of what was seen when it does not come true."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sandbox.errors import WaitTimeoutError

Found = TypeVar("Found")

EVERY_S = 0.05
SHOWN = 20
"""Changes that an account tells; the ones before are counted."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """The condition does not hold; `seen` is what holds instead, in a few words."""

    seen: str


def wait_for(
    what: str,
    look: Callable[[], Found | NotYet],
    *,
    timeout_s: float = 30.0,
    every_s: float = EVERY_S,
    account: Callable[[], str] | None = None,
) -> Found:
    """Look again and again until there is something other than NotYet; returns it.

    Raises WaitTimeoutError with every change that was seen and, from `account`, what else may explain it.
    """
    start = time.monotonic()
    history: list[tuple[float, str]] = []
    while True:
        found = look()
        if not isinstance(found, NotYet):
            return found
        elapsed_s = time.monotonic() - start
        if not history or history[-1][1] != found.seen:
            history.append((elapsed_s, found.seen))
        if elapsed_s > timeout_s:
            break
        time.sleep(every_s)
    lines = [f"waited {timeout_s:g} s in vain for {what}; seen:"]
    if len(history) > SHOWN:
        lines.append(f"  ({len(history) - SHOWN} changes before)")
    lines += [f"  +{at_s:.1f} s  {seen}" for at_s, seen in history[-SHOWN:]]
    if account is not None:
        lines.append(account())
    raise WaitTimeoutError("\n".join(lines))
