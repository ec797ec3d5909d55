"""Which configuration holds for a request: classes first, then the claim; of several the last. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dra_driver.config.model import Settings
from dra_driver.config.parse import ConfigError, parse, settings
from dra_driver.errors import PermanentError
from kube.linkwish import CONFIG_DRIVER
from kube.objects_claims import DeviceAllocationConfiguration

FROM_CLASS, FROM_CLAIM = "FromClass", "FromClaim"
_SOURCES = (FROM_CLASS, FROM_CLAIM)


def settings_for(
    configs: Sequence[DeviceAllocationConfiguration], request: str, *, driver: str = CONFIG_DRIVER
) -> Settings:
    """Return the settings of the devices given to `request`, which may name an alternative (`gpu/small`).

    A `sharing` is taken as a whole: the last one wins, and nothing of the others is left. Every configuration for us
    must be good, also one that another replaces. Raises PermanentError, naming source, position and path.
    """
    chosen = Settings()
    for at, config in _in_order(configs):
        if not concerns(config.requests, request):
            continue
        found = _parsed(config, f"{config.source} config[{at}]", driver)
        chosen = chosen if found is None else found
    return chosen


def concerns(requests: Sequence[str], request: str) -> bool:
    """Whether what names `requests` (none: all) is meant for `request`, which may be an alternative of one of them."""
    return not requests or request in requests or request.partition("/")[0] in requests


def _in_order(
    configs: Sequence[DeviceAllocationConfiguration],
) -> Iterable[tuple[int, DeviceAllocationConfiguration]]:
    for config in configs:
        if config.source not in _SOURCES:
            problem = f"a configuration has the source {config.source!r}, unknown to this version of Dovetail"
            raise PermanentError(f"{problem}; use a newer one")
    return sorted(enumerate(configs), key=lambda entry: _SOURCES.index(entry[1].source))


def _parsed(config: DeviceAllocationConfiguration, where: str, driver: str) -> Settings | None:
    if config.opaque is None:
        raise PermanentError(f"{where}: is of a type that this version of Dovetail does not know; use a newer one")
    if config.opaque.driver != driver:
        return None
    try:
        sharing = parse(config.opaque.parameters).sharing
    except ConfigError as fault:
        raise PermanentError(f"{where}: opaque parameters: {fault}") from fault
    return settings(sharing) if sharing else None
