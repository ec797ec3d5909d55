"""Writes the host tree of a twin, and binds the twin to it."""

from __future__ import annotations

from pathlib import Path

from twin.store import Store
from twin.tree.capabilities import sync_capabilities
from twin.tree.driverfiles import write_libraries, write_programs
from twin.tree.procfs import free_majors, write_boot_id, write_dev, write_proc
from twin.tree.sysfs import write_sys


def build_tree(store: Store, root: Path) -> None:
    """Write the tree below `root`; from now on it follows the twin. Building it again brings it up to date."""
    root.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    uvm, caps = free_majors(2)
    with store.change() as state:
        state.behaviour.uvm_major = state.behaviour.uvm_major or uvm
        state.behaviour.caps_major = state.behaviour.caps_major or caps
        write_dev(root, store.facts, state)
        write_proc(root, store.facts, state)
        write_sys(root, store.facts, state.behaviour.driver_version)
        write_libraries(root, state.behaviour.driver_version)
        write_programs(root, store.folder)
        state.behaviour.tree = str(root)
        sync_capabilities(store.facts, state)


def sync_tree(store: Store) -> None:
    """Bring the tree up to date: a process may have been killed between the state and what shows it."""
    state = store.read()
    if state.behaviour.tree:
        with store.change() as current:
            sync_capabilities(store.facts, current)
            write_boot_id(Path(current.behaviour.tree), store.facts, current)
