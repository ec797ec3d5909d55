"""Why a pod cannot be served, whatever node it is tried on."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of the program
    """A pod that asks for something which cannot be given on any node.

    `text` is for events: the same for unchanged objects, without counts or times. It names claim, request and cause.
    `remedy` says what its owner can do; `detail`, for those who ask why, is both.
    """

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.remedy = remedy

    @property
    def detail(self) -> str:
        """The text, with the remedy where there is one."""
        return f"{self.text}; {self.remedy}" if self.remedy else self.text


class WishRefusal(Refusal):
    """A link wish that cannot be read. To serve the pod in spite of it would lose the wish."""
