"""A world whose node is the real driver on a twin: NVML binding, journal, CDI files, sharing, as `app` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dra_driver.assemble import NodeSide
from dra_driver.nvml.binding import PynvmlNvml
from dra_driver.roots import Roots
from dra_driver.settings import Settings
from tests.dra_driver.kubelet import V1, Api
from tests.dra_driver.plugin.world import NODE, World, new_world
from twin import Twin

H100 = "hgx-h100-8"


@dataclass(frozen=True)
class Real:
    """A world, its machine, and the driver's side that faces it."""

    world: World
    twin: Twin
    side: NodeSide
    roots: Roots

    def instances(self) -> int:
        """GPU instances on the machine."""
        return sum(len(gpu.instances) for gpu in self.twin.state.gpus)

    def cdi_files(self) -> int:
        return len(list(self.roots.cdi.glob("*.json")))


@contextmanager
def real_world(
    api_of_kubelet: Api = V1, machine: str = H100, *, state: Path | None = None, cdi: Path | None = None
) -> Iterator[Real]:
    """Make it; `state` and `cdi` are folders on other file systems for what the driver writes."""
    with new_world(api_of_kubelet) as world:
        twin = Twin.create(world.root / "twin", machine, node=NODE)
        host = world.root / "host"
        twin.write_tree(host)
        roots = Roots(
            driver_root=host,
            dev_root=host,
            proc=host / "proc",
            sys=host / "sys",
            cdi=cdi or world.root / "var-run-cdi",
            kubelet=world.root,
            state=state or world.roots.state,
        )
        with twin.install():
            nvml = PynvmlNvml()
            try:
                side = NodeSide.make(Settings(node=NODE, roots=roots), nvml)
                side.inspection.look()
                world.preparer = side.state
                yield Real(world, twin, side, roots)
            finally:
                nvml.close()
