"""How property tests run here: the same examples every time, so that a failure can be repeated by its name alone.

HYPOTHESIS_PROFILE=search draws new ones, and DOVETAIL_EXAMPLES=20 draws twenty times as many.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["sandbox.pytest_plugin", "tests.manifests.fixtures"]
"""Fixtures of a real cluster: control_plane, testbed, node; and of the manifests on it."""

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("search", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
