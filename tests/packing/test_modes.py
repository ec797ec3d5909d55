"""The same tests in three modes: compiled as shipped (everywhere), with bounds checked, and as plain Python.

An out-of-range write is silent in compiled code. Each mode has a process of its own and this file one worker, since
machine code that checks bounds takes half a minute to make (kept on disk until a kernel changes).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from packing.kernels import jit

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SUBSET = {
    "NUMBA_BOUNDSCHECK": [
        "test_reference.py",
        "test_place_laws.py",
        "test_usage.py",
        "test_cases.py",
        "test_restore.py",
        "test_several.py",
    ],
    "NUMBA_DISABLE_JIT": ["test_reference.py", "test_cases.py", "test_restore.py"],
}
KIND = {"NUMBA_BOUNDSCHECK": "compiled", "NUMBA_DISABLE_JIT": "plain"}

pytestmark = pytest.mark.skipif(any(mode in os.environ for mode in SUBSET), reason="runs inside one of the modes")


def run(mode: str, *arguments: str) -> str:
    """Run python in `mode`, warnings as errors; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NUMBA_BOUNDS"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env={**kept, mode: "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("mode", SUBSET)
def test_a_read_past_the_end_of_an_array_is_caught(mode):
    """Neither mode lets a hot or an inner kernel read or write outside, and neither uses the other's machine code."""
    kind, *folder = run(mode, str(HERE / "probe_bounds.py")).split()
    assert kind == KIND[mode]
    if mode == "NUMBA_BOUNDSCHECK" and folder:
        assert folder != [jit._CACHE_DIR]


@pytest.mark.parametrize("mode", SUBSET)
def test_kernels_pass_their_tests_in_every_mode(mode):
    files = [str(HERE / name) for name in SUBSET[mode]]
    out = run(mode, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    assert " passed" in out
    assert "skipped" not in out
