"""What the operator of a node lets the driver do to MIG."""

from __future__ import annotations

from enum import StrEnum


class MigPolicy(StrEnum):
    """Which GPUs are published in parts, and whether the driver may switch MIG."""

    DYNAMIC = "dynamic"
    """Switch MIG on and off as claims ask, where that needs no reset; elsewhere as AS_FOUND."""
    AS_FOUND = "as-found"
    """Never switch MIG: a GPU with MIG on is published in parts, one with MIG off as a whole."""
    DISABLED = "disabled"
    """Publish no parts, and nothing of a GPU with MIG on but MIG devices that exist."""
