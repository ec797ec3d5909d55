"""What can go wrong with a run besides bad input."""

from __future__ import annotations


class RunFailedError(RuntimeError):
    """A run broke down (not bad input): the message names the run and what happened."""


class ClusterError(RunFailedError):
    """A cluster cannot be used, or no longer: the message names its address, what happened and what to do."""
