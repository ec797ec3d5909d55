"""Parts of timestamps and durations. Without a time zone, UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kube.cel.errors import SelectorFault
from kube.cel.gotime import EPOCH, local_time
from kube.cel.signatures import TIME_PARTS
from kube.cel.values import Duration, Timestamp, Value

_NUMBER = re.compile(r"[+-]?[0-9]{1,6}")

_PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda at: at.year,
    "getMonth": lambda at: at.month - 1,
    "getDayOfYear": lambda at: at.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda at: at.day - 1,
    "getDate": lambda at: at.day,
    "getDayOfWeek": lambda at: at.isoweekday() % 7,
    "getHours": lambda at: at.hour,
    "getMinutes": lambda at: at.minute,
    "getSeconds": lambda at: at.second,
    "getMilliseconds": lambda at: at.microsecond // 1000,
}
_DURATION_PARTS = {"hours": 3600 * 10**9, "minutes": 60 * 10**9, "seconds": 10**9, "milliseconds": 10**6}


def _in_zone(value: Timestamp, zone: str) -> datetime:
    seconds, nanos = divmod(value.nanos, 10**9)
    return local_time(seconds + _offset(zone, seconds)) + timedelta(microseconds=nanos // 1000)


def _offset(zone: str, seconds: int) -> int:
    """Return the seconds east of UTC in a zone, by IANA name or as `-08:00`."""
    if zone in ("", "UTC"):
        return 0
    hours, colon, minutes = zone.partition(":")
    if colon:
        if not (_NUMBER.fullmatch(hours) and _NUMBER.fullmatch(minutes)):
            raise SelectorFault(f"invalid time zone {zone!r}")
        east = int(hours) * 60 + (-int(minutes) if zone.startswith("-") else int(minutes))
        return east * 60
    try:
        found = (EPOCH + timedelta(seconds=seconds)).astimezone(ZoneInfo(zone)).utcoffset()
    except (ZoneInfoNotFoundError, ValueError, OSError, OverflowError) as fault:
        raise SelectorFault(f"unknown time zone {zone}") from fault
    assert found is not None
    return int(found.total_seconds())


def _part(read: Callable[[datetime], int]) -> Callable[..., int]:
    return lambda value, zone="UTC": read(_in_zone(value, zone))


def _duration_part(unit: int) -> Callable[[Duration], int]:
    return lambda value: abs(value.nanos) // unit * (-1 if value.nanos < 0 else 1)


BY_OVERLOAD: dict[str, Callable[..., Value]] = {
    **{f"timestamp_to_{part}": _part(_PARTS[name]) for name, part in TIME_PARTS.items()},
    **{f"timestamp_to_{part}_with_tz": _part(_PARTS[name]) for name, part in TIME_PARTS.items()},
    **{f"duration_to_{part}": _duration_part(unit) for part, unit in _DURATION_PARTS.items()},
}
