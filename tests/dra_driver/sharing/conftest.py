"""The host that sharing is put on."""

import tempfile
from pathlib import Path

import pytest

from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.roots import Roots
from dra_driver.sharing.control import NodeSharing
from tests.dra_driver.sharing.host import BOOT, Host, daemons
from twin import Twin


@pytest.fixture
def host(tmp_path):
    twin = Twin.create(tmp_path / "twin", "hgx-h100-8")
    twin.write_tree(tmp_path / "root")
    (tmp_path / "root/dev/shm").mkdir(parents=True, exist_ok=True)
    # A socket's path is short, that of a test's folder is not.
    with tempfile.TemporaryDirectory(prefix="mps") as short, twin.install():
        roots = Roots(driver_root=tmp_path / "root", dev_root=tmp_path / "root", state=Path(short))
        nvml = PynvmlNvml()
        made = Host(twin, roots, nvml, NodeSharing(nvml, roots, BOOT))
        yield made
        twin.clear_faults()
        for uuid in made.sharing.leftovers():
            made.sharing.release(uuid)
        assert not daemons(roots)
