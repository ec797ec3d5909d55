"""A record as bytes: a header line with format, length and SHA-256 of the body, then the record as JSON.

The digest is over the bytes, never over a structure: a field that another version of the driver adds cannot break it,
and outlives a rewrite by this one (`keep_unknown`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from dra_driver.prepare.model import Record

MAGIC = "dovetail-claim"
FORMAT = 1
MAX_BYTES = 1 << 20
"""32 devices are all that an allocation can hold; a file beyond this is none of ours."""
_MAX_HEADER = 128

Json = dict[str, Any]

# Made before there are threads: two that meet a type for the first time at once crash the process (msgspec 0.22).
_decode_record = msgspec.json.Decoder(Record).decode


class CorruptError(Exception):
    """Bytes that are not a record as it was written. The text says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record, and the JSON it came from where that has fields which this version does not know."""

    record: Record
    raw: Json | None


def encode(record: Record, earlier: Json | None = None) -> bytes:
    """Return the bytes of a record; fields of `earlier` that this version does not know are kept."""
    body = msgspec.json.encode(record if earlier is None else keep_unknown(earlier, msgspec.to_builtins(record)))
    return _header(body) + body


def decode(data: bytes) -> Decoded:
    """Return the record in `data`. Raises CorruptError."""
    header, newline, body = data.partition(b"\n")
    if not newline or len(header) > _MAX_HEADER:
        raise CorruptError("has no header line")
    if len(data) > MAX_BYTES:
        raise CorruptError(f"is longer than {MAX_BYTES} bytes")
    if header + b"\n" != _header(body):
        raise CorruptError(f"header does not fit its body of {len(body)} bytes: format, length or digest differ")
    try:
        record = _decode_record(body)
        raw = None if msgspec.json.encode(record) == body else msgspec.json.decode(body, type=Json)
    except (msgspec.MsgspecError, RecursionError) as fault:
        raise CorruptError(f"is no record that this version knows: {fault}") from fault
    if len(record.made) != len(record.devices):
        raise CorruptError(f"has {len(record.devices)} devices, and says of {len(record.made)} what was made")
    return Decoded(record, raw)


def keep_unknown(earlier: object, content: object) -> object:
    """Return `content` with the keys that only `earlier` has: all that this version knows are in `content`."""
    if isinstance(earlier, dict) and isinstance(content, dict):
        merged = {key: keep_unknown(earlier.get(key), value) for key, value in content.items()}
        return {**{key: value for key, value in earlier.items() if key not in content}, **merged}
    if isinstance(earlier, list) and isinstance(content, list | tuple) and len(earlier) == len(content):
        return [keep_unknown(old, new) for old, new in zip(earlier, content, strict=True)]
    return content


def _header(body: bytes) -> bytes:
    return f"{MAGIC} {FORMAT} {len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()
