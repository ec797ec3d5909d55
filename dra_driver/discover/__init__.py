"""What GPUs this node has: NVML and sysfs in, `NodeGpus` out."""

from dra_driver.discover.hidden import with_hidden_links
from dra_driver.discover.node import Discovered, discover

__all__ = ["Discovered", "discover", "with_hidden_links"]
