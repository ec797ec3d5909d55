"""What ends the plugin, or keeps it from starting.

PluginError
  SocketError        a folder or socket that cannot be used safely, or is in use
  RegistrationError  the kubelet refused the plugin
"""

from __future__ import annotations


class PluginError(Exception):
    """The plugin cannot go on. The text says why and what to do."""


class SocketError(PluginError):
    """A folder or socket cannot be used as it is."""


class RegistrationError(PluginError):
    """The kubelet knows the plugin, and does not want it."""
