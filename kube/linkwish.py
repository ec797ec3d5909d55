"""The wish for links between the GPUs of a request, from opaque configuration of our driver (docs/claims.md).

Only `link` is decoded here, and strictly: a wish that is misspelt must not be lost. Everything else in a configuration
belongs to the driver, whose schema (`dra_driver.config.schema`) takes `Link` from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec

from topology.wishes import LEAST_GBPS, MOST_GBPS, LinkWish

CONFIG_DRIVER = "gpu.dovetail.dev"
"""Driver whose opaque configuration may hold a link wish."""
API_VERSION = "gpu.dovetail.dev/v1alpha1"
KIND = "GpuConfig"


class LinkTerms(NamedTuple):
    """What a request wishes of the links between its GPUs; `min_gbps` (GB/s per direction) needs `require`."""

    wish: LinkWish = LinkWish.PREFER
    min_gbps: float = 0


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How the GPUs of a request should be linked."""

    wish: LinkWish
    min_gbps: Annotated[float, msgspec.Meta(ge=LEAST_GBPS, le=MOST_GBPS)] | None = msgspec.field(
        name="minGBps", default=None
    )


class _Config(msgspec.Struct, rename="camel"):
    api_version: Literal["gpu.dovetail.dev/v1alpha1"]
    kind: Literal["GpuConfig"]
    link: Link


def decode_link(parameters: object) -> LinkTerms | None:
    """Return the link wish of opaque parameters, None where they hold none.

    Raises ValueError, whose text has the path of the fault, such as `$.link.wish`.
    """
    if not isinstance(parameters, Mapping) or "link" not in parameters:
        return None
    return link_terms(msgspec.convert(dict(parameters), _Config).link)


def link_terms(link: Link) -> LinkTerms:
    """Return what a `link` says. Raises ValueError as `decode_link` does."""
    if link.min_gbps is not None and link.wish is not LinkWish.REQUIRE:
        msg = "a minimum needs `wish: require` - at `$.link.minGBps`"
        raise ValueError(msg)
    return LinkTerms(link.wish, link.min_gbps or 0)
