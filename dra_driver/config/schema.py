"""The kind `GpuConfig`: its fields, and the JSON Schema that says the same (docs/gpuconfig.schema.json).

`link` is read by the scheduler as well, so `kube.linkwish` defines it.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dra_driver.config.model import Interval, Strategy
from kube.linkwish import API_VERSION, Link
from topology.wishes import LinkWish

SIZE = r"^([1-9][0-9]{0,5}(\.[0-9]{1,3})?(Mi|Gi|Ti|G|T)|[1-9][0-9]{1,5}(\.[0-9]{1,3})?M)(?![\s\S])"
"""Quantities of memory of at least 1 MiB, such as 512Mi, 1.5Gi, 10G. Not `$`: Python lets a line end follow."""
SIZE_WORDS = "an amount of memory of at least 1Mi, such as 512Mi, 10Gi or 10G"
SCHEMA_ID = "urn:gpu.dovetail.dev:v1alpha1:GpuConfig"


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """No field is ever quietly ignored, and none may be null: `sharing:` and no more is something forgotten."""


class TimeSlicing(_Strict, frozen=True):
    """With strategy time-slicing alone."""

    interval: Annotated[Interval, Meta(description="How long a process runs before the next; of the whole GPU.")] = (
        Interval.DEFAULT
    )


class Mps(_Strict, frozen=True):
    """With strategy mps alone."""

    active_thread_percentage: (
        Annotated[int, Meta(ge=1, le=100, description="Most of the GPU's threads that a process may use.")] | UnsetType
    ) = UNSET
    pinned_memory_limit: (
        Annotated[str, Meta(pattern=SIZE, description=f"Most device memory of a process: {SIZE_WORDS}.")] | UnsetType
    ) = UNSET


class SharingTerms(_Strict, frozen=True):
    """How the processes that hold a device use it together."""

    strategy: Strategy
    time_slicing: TimeSlicing | UnsetType = UNSET
    mps: Mps | UnsetType = UNSET


class GpuConfig(_Strict, frozen=True):
    """Opaque configuration for the driver gpu.dovetail.dev, in a ResourceClaim or a DeviceClass."""

    api_version: Literal["gpu.dovetail.dev/v1alpha1"]
    kind: Literal["GpuConfig"]
    link: Link | UnsetType = UNSET
    sharing: SharingTerms | UnsetType = UNSET


@cache
def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of GpuConfig; it admits exactly what `parse` does."""
    (schema,), parts = msgspec.json.schema_components([GpuConfig], ref_template="#/$defs/{name}")
    parts["SharingTerms"]["allOf"] = [
        _only_with("strategy", Strategy.TIME_SLICING, {"timeSlicing": False}),
        _only_with("strategy", Strategy.MPS, {"mps": False}),
    ]
    parts["Link"]["allOf"] = [_only_with("wish", LinkWish.REQUIRE, {"minGBps": {"type": "null"}})]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": f"GpuConfig {API_VERSION}",
        **schema,
        "$defs": dict(sorted(parts.items())),
    }


def _only_with(field: str, value: str, otherwise: dict[str, Any]) -> dict[str, Any]:
    """Return the rule that properties are as in `otherwise` where `field` has another value."""
    return {"if": {"properties": {field: {"const": value}}}, "else": {"properties": otherwise}}
