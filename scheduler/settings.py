"""What one run of the scheduler is told: read once from flags and environment, passed down, shown by /configz."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from kube.address import Address, read_address
from packing.policy import DEFAULT_POLICY, POLICIES
from scheduler.slack import MAX_SLACK, is_slack, read_slack
from topology.errors import InvalidInputError

DRIVER = "gpu.dovetail.dev"
DEFAULT_NAME = "dovetail"
WHAT = "scheduler settings"


class Mode(StrEnum):
    """Who allocates devices."""

    ALLOCATE = "allocate"
    SCORE = "score"


DEFAULT_ADDRESS = Address("127.0.0.1", 12390)


class LeaseName(NamedTuple):
    """A Lease."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Files of a serving certificate, its key, and the authority that signs those of clients."""

    certificate: Path
    key: Path
    client_ca: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked when made: raises InvalidInputError, which names the flag."""

    kubeconfig: Path | None = None
    """None: the service account of the Pod."""
    listen: Address = DEFAULT_ADDRESS
    observe: Address | None = None
    """Where probes and metrics are answered too, and nothing else; unlike `listen`, also from outside the Pod."""
    tls: TlsFiles | None = None
    mode: Mode = Mode.ALLOCATE
    drivers: tuple[str, ...] = (DRIVER,)
    """Those whose devices we allocate."""
    ignored_taints: frozenset[str] = frozenset()
    """Keys of device taints that are for other schedulers."""
    policy: str = DEFAULT_POLICY
    place_all: bool = False
    """Decide for pods without devices too."""
    slack: float | None = None
    """Whole GPUs of future demand by which an offered node may be worse than the best; None: pods decide."""
    scheduler_name: str = DEFAULT_NAME
    lease: LeaseName | None = None
    """Of our kube-scheduler: claims are written while it holds this. None: it has no replicas."""
    identity: str = ""
    """Start of the holder of the lease: what kube-scheduler takes for the name of its host."""
    decision_log: Path | None = None
    decision_log_max_mib: int = 100
    log_level: str = "info"
    version: str = ""
    """Of Dovetail."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InvalidInputError(WHAT, "--policy", f"{self.policy!r} is unknown; known: {', '.join(POLICIES)}")
        if not self.drivers or not all(self.drivers) or len(set(self.drivers)) < len(self.drivers):
            raise InvalidInputError(WHAT, "--driver", "give each driver once, such as gpu.dovetail.dev")
        if self.slack is not None and not is_slack(self.slack):
            raise InvalidInputError(WHAT, "--slack", f"must be a number of GPUs from 0 to {MAX_SLACK:.0f}")
        if self.mode is Mode.SCORE:
            self._check_score()
        elif bool(self.identity) > bool(self.lease):
            raise InvalidInputError(WHAT, "--identity", "has no meaning without --lease, whose holder it names")
        if self.tls is None and not self.listen.is_loopback:
            raise InvalidInputError(
                WHAT,
                "--listen",
                f"{self.listen} can be reached from outside: give --tls-cert, --tls-key and --client-ca, or listen on "
                "127.0.0.1 in the Pod of kube-scheduler",
            )

    def _check_score(self) -> None:
        """Refuse what mode score would not heed."""
        given = {
            "--place-all": self.place_all,
            "--lease": self.lease,
            "--identity": self.identity,
            "--scheduler-name": self.scheduler_name != DEFAULT_NAME,
            "--ignore-taint": self.ignored_taints,
            "--decision-log": self.decision_log,
        }
        for flag, value in given.items():
            if value:
                raise InvalidInputError(WHAT, flag, "has no meaning in mode score, where kube-scheduler allocates")

    def public(self) -> dict[str, object]:
        """Return the settings as JSON values; there are no secrets among them."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}


def parse_address(flag: str, text: str) -> Address:
    """Read HOST:PORT, [IPV6]:PORT or :PORT, which means all addresses."""
    return read_address(WHAT, flag, text, example=DEFAULT_ADDRESS)


def parse_lease(text: str) -> LeaseName:
    """Read NAMESPACE/NAME."""
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        raise InvalidInputError(WHAT, "--lease", f"{text!r} is not NAMESPACE/NAME")
    return LeaseName(namespace, name)


def parse_slack(text: str) -> float:
    """Read a number of GPUs."""
    return read_slack(WHAT, "--slack", text)


def parse_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """Take all three files or none."""
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None or client_ca is None:
        raise InvalidInputError(WHAT, "--tls-cert", "--tls-cert, --tls-key and --client-ca go together")
    return TlsFiles(certificate=certificate, key=key, client_ca=client_ca)


def _plain(value: object) -> object:
    if isinstance(value, TlsFiles):
        return {"certificate": str(value.certificate), "client_ca": str(value.client_ca)}
    if isinstance(value, Path | Address | LeaseName):
        return str(value)
    return sorted(value) if isinstance(value, frozenset) else value
