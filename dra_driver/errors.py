"""What goes wrong on a node, typed by what helps.

DeviceError
  PermanentError     the same request will never do: a bad configuration, a device that does not exist
  RetryableError     another attempt may do: NVML says "in use", a program did not answer in time
    HeldError        another claim holds the device, its MIG placement or its share; ends with that claim's Unprepare
    GpuGoneError     the GPU fell off the bus, or is not in the machine any more
  CancelledError     the caller has given up; nothing was done
"""

from __future__ import annotations


class DeviceError(Exception):
    """A claim cannot be prepared or unprepared. The text names the claim's request or device, the cause, the remedy."""


class PermanentError(DeviceError):
    """The same request will never do."""


class RetryableError(DeviceError):
    """Another attempt may do."""


class HeldError(RetryableError):
    """Another claim holds what this one was given."""


class GpuGoneError(RetryableError):
    """The GPU does not answer, and will not before people saw to it."""


class CancelledError(DeviceError):
    """The caller has given up before anything was done; a later call starts anew."""
