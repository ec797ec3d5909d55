"""Durations and timestamps as Go reads and writes them (time.ParseDuration, RFC 3339)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from kube.cel.arithmetic import checked_timestamp
from kube.cel.errors import SelectorFault
from kube.cel.values import Duration, Timestamp

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
MAX_DIGITS = 19
_PART = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]+)")
_STAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_of(text: str) -> Duration:
    """Read a duration such as `-1h2.5s`. Raises SelectorFault."""
    wrong = SelectorFault(f"type conversion error from {text!r} to 'google.protobuf.Duration'")
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return Duration(0)
    total, at = 0, 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None or part[3] not in _UNITS or not (part[1] or (part[2] or "")[1:]):
            raise wrong
        if len(part[1].lstrip("0")) > MAX_DIGITS:
            raise wrong
        unit = _UNITS[part[3]]
        total += int(part[1].lstrip("0") or 0) * unit + _fraction((part[2] or "")[1:], unit)
        if total > 2**63:
            raise wrong
        at = part.end()
    nanos = -total if text.startswith("-") else total
    if not rest or nanos > 2**63 - 1:
        raise wrong
    return Duration(nanos)


def _fraction(digits: str, unit: int) -> int:
    """Return a fraction of a unit, through a double as Go computes it; digits beyond 63 bits do not count."""
    value, scale = 0, 1.0
    for digit in digits:
        if value > (2**63 - 1) // 10 or value * 10 + int(digit) > 2**63:
            break
        value, scale = value * 10 + int(digit), scale * 10
    return int(float(value) * (float(unit) / scale))


def timestamp_of(text: str) -> Timestamp:
    """Read a timestamp of RFC 3339. Raises SelectorFault, also outside of years 1 to 9999."""
    wrong = SelectorFault(f"type conversion error from {text!r} to 'google.protobuf.Timestamp'")
    found = _STAMP.fullmatch(text)
    if found is None:
        raise wrong
    year, month, day, hour, minute, second = (int(found[at]) for at in range(1, 7))
    zone = found[8]
    offset = 0 if zone == "Z" else (int(zone[1:3]) * 60 + int(zone[4:6])) * 60 * (-1 if zone[0] == "-" else 1)
    if zone != "Z" and (int(zone[1:3]) > 24 or int(zone[4:6]) > 60):
        raise wrong
    try:
        # Year 0 exists in RFC 3339 and not in Python; 400 years later the calendar is the same.
        local = datetime(year or 400, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise wrong from None
    seconds = (local - EPOCH) // timedelta(seconds=1) - (0 if year else 146097 * 86400)
    nanos = int(((found[7] or "") + "000000000")[:9])
    return checked_timestamp((seconds - offset) * 10**9 + nanos, offset)


def timestamp_text(value: Timestamp) -> str:
    """Write a timestamp in the zone in which it was written."""
    seconds, nanos = divmod(value.nanos, 10**9)
    local = local_time(seconds + value.offset_s)
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    zone = "Z"
    if value.offset_s:
        hours, minutes = divmod(abs(value.offset_s) // 60, 60)
        zone = f"{'-' if value.offset_s < 0 else '+'}{hours:02d}:{minutes:02d}"
    return f"{local.year:04d}-{local.month:02d}-{local.day:02d}T{local:%H:%M:%S}{fraction}{zone}"


def local_time(seconds: int) -> datetime:
    """Return the calendar time of seconds since 1970, for years 1 to 9999."""
    try:
        return EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise SelectorFault("timestamp overflow") from None
