"""What goes wrong with a device selector.

SelectorSyntaxError (compile)  it does not parse, its types do not fit, or a constant in it is invalid
SelectorFault (evaluate)       a key is missing, a value has the wrong type, a number overflows, ...
    CostExceeded               it costs more than the API server allows
"""

from __future__ import annotations


class SelectorSyntaxError(ValueError):
    """An expression that the API server would refuse. `line` and `column` count from 1."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"{line}:{column}: {reason}")
        self.reason = reason
        self.line = line
        self.column = column


class SelectorFault(Exception):  # noqa: N818  an outcome that callers expect
    """An evaluation that fails; its text says why. `||`, `&&` and macros may absorb it."""


class CostExceeded(SelectorFault):
    """An evaluation that is stopped because it costs too much; nothing absorbs it."""
