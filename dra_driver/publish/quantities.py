"""Numbers and versions as the API server stores them, so that what is read back is what was written."""

from __future__ import annotations

from topology.errors import InvalidInputError

_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def count(number: int) -> str:
    """Return a Quantity in its canonical decimal form: 1000 is `1k`."""
    return _canonical(number, 1000, _DECIMAL)


def size(number_of_bytes: int) -> str:
    """Return a Quantity of bytes in its canonical form, binary where it is whole KiB: 2**30 is `1Gi`."""
    return _canonical(number_of_bytes, 1024, _BINARY) if number_of_bytes % 1024 == 0 else count(number_of_bytes)


def _canonical(number: int, base: int, suffixes: tuple[str, ...]) -> str:
    assert number >= 0
    power = 0
    while number and number % base == 0 and power + 1 < len(suffixes):
        number, power = number // base, power + 1
    return f"{number}{suffixes[power]}"


def version(text: str, what: str) -> str:
    """Return a driver or CUDA version as strict SemVer: `580.105.08` is `580.105.8`, `9.0` is `9.0.0`.

    InvalidInputError, naming `what`, where it is not one to three numbers.
    """
    parts = text.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InvalidInputError(what, "", f"is {text[:80]!r}; must be up to three numbers joined by dots")
    return ".".join(str(int(part)) for part in [*parts, "0", "0"][:3])
