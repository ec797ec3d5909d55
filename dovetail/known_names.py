"""Names a pod asks for that nothing here has: a typo must not read like an answer of "does not fit"."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import typer

from topology.errors import InvalidInputError

if TYPE_CHECKING:
    from packing.fabric import Fabric
    from packing.model import Demand
    from topology.mig import MigGeometry

MAX_LISTED = 30
MAX_SHOWN = 80


def check_names(fabric: Fabric, demand: Demand, source: str) -> None:
    """Raise InvalidInputError for a product no GPU of the cluster has, or a profile that is none anywhere.

    Of several products that are alternatives to each other a missing one is only told. A profile that other products
    have is a fair question, and the answer is that it does not fit.
    """
    products = {gpu.product for shape in fabric.shapes for gpu in shape.gpus}
    for request in demand.requests:
        _check_products(request.selector.products, products, source)
        profile = getattr(request, "profile", "")
        if profile:
            _check_profile(fabric, profile, source)


def _check_products(asked: Collection[str], products: Collection[str], source: str) -> None:
    missing = [product for product in asked if product not in products]
    for product in missing:
        problem = f"no GPU of the cluster is {_named(product, products)}; it has {_listed(products) or 'no GPU'}"
        if len(missing) == len(asked):
            raise InvalidInputError(source, "--product", problem)
        typer.echo(f"dovetail: {source}: --product: {problem}", err=True)


def _check_profile(fabric: Fabric, profile: str, source: str) -> None:
    from topology.catalog import mig_geometries

    here = _profiles(fabric.geometries)
    if profile in here or profile in _profiles(mig_geometries()):
        return
    has = _listed(here) or "no GPU that can be partitioned"
    raise InvalidInputError(
        source,
        "--profile",
        f"no product has {_named(profile, here or _profiles(mig_geometries()))}; the cluster has {has}",
    )


def _profiles(geometries: Collection[MigGeometry]) -> dict[str, None]:
    """Return all names of profiles, in the order of the geometries."""
    profiles = [profile for geometry in geometries for profile in geometry.profiles]
    return dict.fromkeys(name for profile in profiles for name in (profile.name, *profile.alternate_names))


def _named(asked: str, known: Collection[str]) -> str:
    """Quote what was asked for; ask back where only the case differs."""
    alike = next((name for name in known if name.lower() == asked.lower()), None)
    return f"{asked[:MAX_SHOWN]!r}" + (f" (did you mean {alike!r}?)" if alike else "")


def _listed(names: Collection[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - MAX_LISTED} more" if len(ordered) > MAX_LISTED else ""
    return ", ".join(ordered[:MAX_LISTED]) + more
