"""From a node's GPUs to the ResourceSlices that announce them. Pure: values in, JSON objects out, no clock, no I/O."""

from dra_driver.publish.names import DRIVER_NAME
from dra_driver.publish.slices import resource_slices

__all__ = ["DRIVER_NAME", "resource_slices"]
