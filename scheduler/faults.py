"""Why a pod could not be bound. The text goes to kube-scheduler, which tells the pod's owner in an event."""

from __future__ import annotations


class BindFault(Exception):  # noqa: N818 - an answer to kube-scheduler
    """`bind` failed. `final`: another attempt on this node would fail too, so what was written is taken back."""

    final = False

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class FinalFault(BindFault):
    """The pod cannot be bound to this node."""

    final = True


class UnknownFault(BindFault):
    """The Binding got no answer: the pod may have a node."""


class VoidFault(BindFault):
    """What was promised cannot be written any more; another decision may find other devices."""


class NoLongerFree(FinalFault):
    """The devices are taken; another decision may find others."""
