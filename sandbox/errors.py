"""What can go wrong with a sandbox.

SandboxError
├── UnavailableError       this machine cannot do it; says why and what would help: tests skip
├── StartError             a program ended or did not become ready; carries the end of its log
├── ForeignRuntimeError    a kubelet or containerd that is not ours lives here
├── SupervisorError        the supervisor refused a request, or is gone
└── WaitTimeoutError       a condition did not come true; carries what was seen meanwhile
"""

from __future__ import annotations


class SandboxError(Exception):
    """Base of everything that the sandbox raises on purpose."""


class UnavailableError(SandboxError):
    """Something that this machine lacks, with the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class StartError(SandboxError):
    """A program did not come up."""


class ForeignRuntimeError(UnavailableError):
    """A kubelet or a container runtime of somebody else runs on this machine."""


class SupervisorError(SandboxError):
    """The supervisor did not do what it was asked for."""


class WaitTimeoutError(SandboxError):
    """A condition that did not come true in time."""
