"""Flags are checked before anything starts, and faults name the flag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scheduler.settings import (
    Address,
    LeaseName,
    Mode,
    Settings,
    TlsFiles,
    parse_address,
    parse_lease,
    parse_slack,
    parse_tls,
)
from topology.errors import InvalidInputError

OUTSIDE = Address("0.0.0.0", 1)


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:12390", ("127.0.0.1", 12390), True),
        ("localhost:0", ("localhost", 0), True),
        ("[::1]:80", ("::1", 80), True),
        (":9443", ("0.0.0.0", 9443), False),
        ("10.0.0.1:9443", ("10.0.0.1", 9443), False),
    ],
)
def test_addresses(text: str, address: tuple[str, int], loopback: bool) -> None:
    read = parse_address("--listen", text)
    assert (read, read.is_loopback) == (address, loopback)


@pytest.mark.parametrize(
    "text", ["", "12390", "host:1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "::1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="--observe"):
        parse_address("--observe", text)


def test_plain_http_is_for_loopback_alone() -> None:
    with pytest.raises(InvalidInputError, match=r"--listen.*can be reached from outside: give --tls-cert"):
        Settings(listen=OUTSIDE)
    files = TlsFiles(certificate=Path("a"), key=Path("b"), client_ca=Path("c"))
    assert Settings(listen=OUTSIDE, tls=files).tls == files
    assert Settings(observe=OUTSIDE).observe == OUTSIDE


def test_tls_files_go_together() -> None:
    assert parse_tls(None, None, None) is None
    with pytest.raises(InvalidInputError, match="--client-ca go together"):
        parse_tls(Path("a"), Path("b"), None)


def test_leases() -> None:
    assert parse_lease("dovetail/dovetail-scheduler") == LeaseName("dovetail", "dovetail-scheduler")
    for text in ("", "a", "/a", "a/", "a/b/c"):
        with pytest.raises(InvalidInputError, match="--lease"):
            parse_lease(text)


def test_policies_drivers_and_slack_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="--policy: 'x' is unknown; known: "):
        Settings(policy="x")
    for drivers in ((), ("a", "a"), ("",)):
        with pytest.raises(InvalidInputError, match="--driver"):
            Settings(drivers=drivers)
    for slack in (-1.0, float("nan"), float("inf"), 1e300):
        with pytest.raises(InvalidInputError, match="--slack"):
            Settings(slack=slack)


def test_slack_is_read_as_the_annotation_is() -> None:
    assert [parse_slack(text) for text in ("0", "0.5", "1000000")] == [0, 0.5, 1_000_000]
    for text in ("1_0", "1e300", "-1", "half", ""):
        with pytest.raises(InvalidInputError, match=r"--slack: .* is no number of GPUs from 0 to 1000000"):
            parse_slack(text)


def test_what_configz_shows_has_no_key() -> None:
    files = TlsFiles(certificate=Path("tls.crt"), key=Path("secret.key"), client_ca=Path("ca.crt"))
    text = json.dumps(Settings(listen=OUTSIDE, tls=files, lease=LeaseName("a", "b"), kubeconfig=Path("k")).public())
    assert "secret" not in text
    assert '"lease": "a/b"' in text
    assert '"listen": "0.0.0.0:1"' in text


@pytest.mark.parametrize(
    ("flag", "given"),
    [
        ("--place-all", {"place_all": True}),
        ("--lease", {"lease": LeaseName("a", "b")}),
        ("--identity", {"identity": "host"}),
        ("--scheduler-name", {"scheduler_name": "other"}),
        ("--ignore-taint", {"ignored_taints": frozenset({"k"})}),
        ("--decision-log", {"decision_log": Path("log")}),
    ],
)
def test_mode_score_says_what_it_would_not_heed(flag: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=f"{flag}: has no meaning in mode score"):
        Settings(mode=Mode.SCORE, **given)


def test_an_identity_is_of_a_lease() -> None:
    with pytest.raises(InvalidInputError, match="--identity: has no meaning without --lease"):
        Settings(identity="host")
    assert Settings(identity="host", lease=LeaseName("a", "b")).identity == "host"
