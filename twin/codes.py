"""Numbers of NVML's interface, as pynvml names them (nvml.h of API 13)."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """nvmlReturn_t."""

    SUCCESS = 0
    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    LIB_RM_VERSION_MISMATCH = 18
    IN_USE = 19
    INSUFFICIENT_RESOURCES = 23
    ARGUMENT_VERSION_MISMATCH = 25
    UNKNOWN = 999


TEXTS = {
    Code.SUCCESS: "Success",
    Code.UNINITIALIZED: "Uninitialized",
    Code.INVALID_ARGUMENT: "Invalid Argument",
    Code.NOT_SUPPORTED: "Not Supported",
    Code.NO_PERMISSION: "Insufficient Permissions",
    Code.NOT_FOUND: "Not Found",
    Code.INSUFFICIENT_SIZE: "Insufficient Size",
    Code.DRIVER_NOT_LOADED: "Driver Not Loaded",
    Code.TIMEOUT: "Timeout",
    Code.FUNCTION_NOT_FOUND: "Function Not Found",
    Code.GPU_IS_LOST: "GPU is lost",
    Code.RESET_REQUIRED: "GPU requires reset",
    Code.LIB_RM_VERSION_MISMATCH: "RM has detected an NVML/RM version mismatch.",
    Code.IN_USE: "In use by another client",
    Code.INSUFFICIENT_RESOURCES: "Insufficient Resources",
    Code.ARGUMENT_VERSION_MISMATCH: "The provided version is invalid/unsupported",
    Code.UNKNOWN: "Unknown Error",
}


class Refused(Exception):  # noqa: N818 - an answer of the machine, not a fault of the program
    """The machine says no: the call returns `code` and has no effect."""

    def __init__(self, code: Code, why: str = "") -> None:
        super().__init__(f"{TEXTS[code]}: {why}" if why else TEXTS[code])
        self.code = code


class ComputeMode(IntEnum):
    """nvmlComputeMode_t."""

    DEFAULT = 0
    PROHIBITED = 2
    EXCLUSIVE_PROCESS = 3


class EventType(IntEnum):
    """nvmlEventType*: a bit each."""

    SINGLE_BIT_ECC = 0x1
    DOUBLE_BIT_ECC = 0x2
    PSTATE = 0x4
    XID = 0x8
    CLOCK = 0x10
    GPU_UNAVAILABLE = 0x4000
    RECOVERY_ACTION = 0x8000


class Remote(IntEnum):
    """nvmlIntNvLinkDeviceType_t: what is at the far end of a link."""

    GPU = 0
    NPU = 1
    SWITCH = 2
    UNKNOWN = 255


ARCHITECTURES = {
    "Pascal": 4,
    "Volta": 5,
    "Turing": 6,
    "Ampere": 7,
    "Ada Lovelace": 8,
    "Hopper": 9,
    "Blackwell": 10,
}
"""nvmlDeviceArchitecture_t by the word of machine files."""

LEVELS = {"X": 0, "PIX": 10, "PXB": 20, "PHB": 30, "NODE": 40, "SYS": 50}
"""nvmlGpuTopologyLevel_t by the word of `nvidia-smi topo -m`."""

FABRIC_STATES = {"not-supported": 0, "not-started": 1, "in-progress": 2, "completed": 3}
FABRIC_SUMMARIES = {"": 0, "N/A": 0, "Healthy": 1, "Unhealthy": 2, "Limited Capacity": 3}
NVLINK_VERSIONS = {1: 1, 2: 3, 3: 4, 4: 6, 5: 7, 6: 8}
"""nvmlNvlinkVersion_t by generation."""

NO_INSTANCE = 0xFFFFFFFF
"""GPU and compute instance id where there is none."""
