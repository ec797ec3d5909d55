"""How slack is written, by the flag and by the annotation: whole GPUs of future demand, a plain decimal number."""

from __future__ import annotations

import re

from topology.errors import InvalidInputError

MAX_SLACK = 1_000_000.0
"""Beyond any cluster; more would only overflow sums of scores."""
PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
SHOWN = 40


def read_slack(what: str, field: str, text: str) -> float:
    """Return the GPUs that a text tells. Raises InvalidInputError that names `what` and `field`."""
    if not PLAIN.fullmatch(text) or not is_slack(float(text)):
        problem = f'{text[:SHOWN]!r} is no number of GPUs from 0 to {MAX_SLACK:.0f}: write it as "0" or "0.5"'
        raise InvalidInputError(what, field, problem)
    return float(text)


def is_slack(gpus: float) -> bool:
    """Whether it is a number within the bounds."""
    return 0 <= gpus <= MAX_SLACK
