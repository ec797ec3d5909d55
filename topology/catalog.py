"""The machines and MIG geometries shipped with the package. The only module that reads package data."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NoReturn

from topology.errors import InvalidInputError
from topology.machine import Machine, parse_machine
from topology.mig import MigGeometry
from topology.migfile import parse_mig_geometry


@lru_cache(maxsize=1)
def machine_names() -> tuple[str, ...]:
    """Ids of the shipped machine shapes, sorted."""
    return _names("machines")


@cache
def machine(name: str) -> Machine:
    """Return the shipped machine shape `name`; InvalidInputError lists the known ones."""
    if name not in machine_names():
        raise InvalidInputError(f"machine {name}", "", f"is not known; known: {', '.join(machine_names())}")
    return parse_machine(_folder("machines").joinpath(f"{name}.yaml").read_text("utf-8"), f"{name}.yaml")


@lru_cache(maxsize=1)
def mig_geometries() -> tuple[MigGeometry, ...]:
    """All shipped MIG geometries, by id; those without published placements among them."""
    folder = _folder("mig")
    return tuple(
        parse_mig_geometry(folder.joinpath(f"{name}.yaml").read_text("utf-8"), f"{name}.yaml") for name in _names("mig")
    )


def mig_for_product(product_name: str) -> MigGeometry | None:
    """Return the geometry of a product as NVML names it; None where it is unknown or cannot be partitioned."""
    # Older drivers leave out the vendor.
    return _by_product().get(product_name) or _by_product().get(f"NVIDIA {product_name}")


def mig_geometry(id_or_product: str) -> MigGeometry:
    """Return the geometry with this id or for this product; InvalidInputError where there is none."""
    for geometry in mig_geometries():
        if geometry.id == id_or_product:
            return geometry
    found = mig_for_product(id_or_product)
    return found or _unpublished(id_or_product) or _refuse(id_or_product)


def _unpublished(product: str) -> MigGeometry | None:
    """Return the geometry without placements whose product `product` is a longer name of.

    Only such a one: it says no more than why it cannot be used, while a guessed placement would be a wrong answer.
    """
    for geometry in mig_geometries():
        if not geometry.placeable and any(product.startswith(f"{name} ") for name in geometry.products):
            return geometry
    return None


def _refuse(product: str) -> NoReturn:
    """Raise InvalidInputError: the product cannot be partitioned, or its geometry is not shipped."""
    names = {product, f"NVIDIA {product}"}
    for name in machine_names():
        known = machine(name)
        products = {known.product(gpu) for gpu in range(known.gpu_count)}
        if not known.gpu.mig_capable and names & products:
            raise InvalidInputError(f"product {product}", "", "is not MIG-capable: it cannot be partitioned")
    alike = next((known for known in _by_product() if known.lower() == product.lower()), None)
    hint = f"did you mean {alike!r}? " if alike else ""
    raise InvalidInputError(
        f"product {product[:80]}",
        "",
        f"is not known to be MIG-capable: {hint}no MIG geometry is shipped for it. Known: {', '.join(_by_product())}; "
        f"by id: {', '.join(geometry.id for geometry in mig_geometries())}",
    )


@lru_cache(maxsize=1)
def _by_product() -> dict[str, MigGeometry]:
    return {product: geometry for geometry in mig_geometries() for product in geometry.products}


def _names(folder: str) -> tuple[str, ...]:
    entries = (entry.name for entry in _folder(folder).iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in entries if name.endswith(".yaml")))


def _folder(name: str) -> Traversable:
    return files("topology").joinpath("data", name)
