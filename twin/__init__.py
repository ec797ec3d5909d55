"""A GPU machine without GPUs: a stateful model under pynvml, a host tree and stand-ins for NVIDIA's programs.

Product code never imports this package. Tests and the sandbox start programs on it with `python -m twin run`.
"""

from twin.control import Twin

__all__ = ["Twin"]
