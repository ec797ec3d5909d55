"""What GPUs this node has: NVML and sysfs in, `NodeGpus` out."""

from dra_driver.discover.node import Discovered, discover

__all__ = ["Discovered", "discover"]
