"""Taints of devices as they are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

MAX_TAINTS = 16
"""Of a device; 4 in Kubernetes 1.34."""


class Effect(StrEnum):
    """What a taint does to pods that do not tolerate it. `NONE` informs (Kubernetes 1.35 and later)."""

    NONE = "None"
    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


@dataclass(frozen=True, slots=True)
class DeviceTaint:
    """A taint of a device. The API server says since when it is there."""

    key: str
    value: str
    effect: Effect

    def manifest(self) -> dict[str, Any]:
        """As the API has it."""
        return {"key": self.key} | ({"value": self.value} if self.value else {}) | {"effect": str(self.effect)}


Taints = Mapping[str, Sequence[DeviceTaint]]
"""By name of the device."""
NO_TAINTS: Taints = MappingProxyType({})


def keeps_off(taints: Sequence[DeviceTaint]) -> bool:
    """Whether a device with these is for those alone who tolerate them."""
    return any(taint.effect is not Effect.NONE for taint in taints)
