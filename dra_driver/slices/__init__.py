"""Keeps the ResourceSlices of this node as they should be, with few writes and no instant at which they mislead."""
