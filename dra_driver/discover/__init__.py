"""What GPUs this node has: NVML and sysfs in, `NodeGpus` out."""

from dra_driver.discover.node import Discovered, discover
from dra_driver.discover.retry import discover_when_loaded

__all__ = ["Discovered", "discover", "discover_when_loaded"]
