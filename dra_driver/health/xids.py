"""XIDs: what NVIDIA's kernel driver says when something goes wrong on a GPU.

Names: NVIDIA, "XID Errors" (docs.nvidia.com/deploy/xid-errors). Which are the applications' own is what NVIDIA's device
plugin and DRA driver leave out.
"""

from __future__ import annotations

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""A tenant's program did wrong, or was stopped: the GPU is sound."""
TELLS_OF_ACTION = 154
"""Only says that the recovery action has changed, which is then read."""

NAMES = {
    13: "graphics engine exception",
    31: "GPU memory page fault",
    43: "GPU stopped processing",
    45: "preemptive cleanup, due to previous errors",
    48: "double bit ECC error",
    61: "internal micro-controller breakpoint or warning",
    62: "internal micro-controller halt",
    63: "ECC page retirement or row remapping recorded",
    64: "ECC page retirement or row remapping failed",
    68: "NVDEC0 exception",
    69: "graphics engine class error",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    92: "high single-bit ECC error rate",
    94: "contained ECC error",
    95: "uncontained ECC error",
    109: "context switch time-out",
    119: "GSP RPC time-out",
    120: "GSP error",
    140: "unrecovered ECC error",
    154: "GPU recovery action changed",
}


def named(xid: int) -> str:
    """Return an XID for people: `XID 79 (GPU has fallen off the bus)`."""
    return f"XID {xid} ({NAMES[xid]})" if xid in NAMES else f"XID {xid}"


def counted(xid: int) -> str:
    """Return the XID as the value of a metric's label: those that have a name here, else `other`."""
    return str(xid) if xid in NAMES else "other"
