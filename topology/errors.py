"""The one error of the pure core: input that cannot be what its author meant."""

from __future__ import annotations


class InvalidInputError(ValueError):
    """Input that cannot be used. The message names the object, the field and what to do about it.

    Not for "does not fit": that is an answer (`packing.model.Decision`), never an exception.
    """

    def __init__(self, obj: str, field: str, problem: str) -> None:
        """Say which `field` of which `obj` is wrong and, in `problem`, why and what would be right."""
        self.obj = obj
        self.field = field
        self.problem = problem
        super().__init__(f"{obj}: {field}: {problem}" if field else f"{obj}: {problem}")

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[object, ...]]:
        """Pickle by the arguments, so that an error crosses process borders whole."""
        return type(self), (self.obj, self.field, self.problem)


class InvalidInputsError(InvalidInputError):
    """Several faults of one input, gathered so that its author can mend them in one go."""

    def __init__(self, obj: str, faults: tuple[InvalidInputError, ...]) -> None:
        """Gather `faults` (at least one) found in `obj`."""
        assert faults
        self.faults = faults
        listed = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(obj, "", f"{len(faults)} fault{'s' if len(faults) > 1 else ''}{listed}")

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[object, ...]]:
        """Pickle by the arguments."""
        return type(self), (self.obj, self.faults)
