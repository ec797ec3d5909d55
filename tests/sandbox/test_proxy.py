"""A client of a real API server sees what the proxy is told to do to it, and nothing else."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3
import yaml

from sandbox import objects, tools
from sandbox.api import Api, ApiFault, Conflict, Manifest
from sandbox.chaos.faults import Answer, Delay, Fault, Gate, Match, Reset
from sandbox.chaos.proxy import ApiProxy
from sandbox.controlplane import ControlPlane
from sandbox.pytest_plugin import had_or_skipped
from sandbox.schedulers import SchedulerOptions, SecondScheduler
from sandbox.testbed import Testbed
from sandbox.waiting import NotYet, wait_for

CONFIG_MAPS = Match(resources=["configmaps"])
LONG_S = 30.0


@pytest.fixture(scope="module")
def shared_proxy(control_plane: ControlPlane) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane.kubeconfig) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: ApiProxy, testbed: Testbed) -> Iterator[ApiProxy]:
    yield shared_proxy
    shared_proxy.cut()


@pytest.fixture
def through(proxy: ApiProxy) -> Iterator[Api]:
    """A client behind the proxy that does not try again by itself."""
    api = Api(proxy.kubeconfig)
    api._client.rest_client.pool_manager.connection_pool_kw["retries"] = False
    yield api
    api.close()


def config_map(testbed: Testbed, name: str = "one") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": testbed.namespace, "name": name},
        "data": {"key": "value"},
    }


def ours(testbed: Testbed, *verbs: str) -> Match:
    return Match(verbs=verbs, resources=["configmaps"], namespaces=[testbed.namespace])


def watched(proxy: ApiProxy, path: str, **headers: str) -> tuple[http.client.HTTPResponse, socket.socket]:
    """The answer to a GET through the proxy, and its connection."""
    (cluster,) = yaml.safe_load(proxy.kubeconfig.read_text())["clusters"]
    (user,) = yaml.safe_load(proxy.kubeconfig.read_text())["users"]
    tls = ssl.create_default_context(cafile=cluster["cluster"]["certificate-authority"])
    tls.load_cert_chain(user["user"]["client-certificate"], user["user"]["client-key"])
    host = cluster["cluster"]["server"].removeprefix("https://")
    connection = http.client.HTTPSConnection(host, context=tls, timeout=LONG_S)
    connection.request("GET", path, headers=headers)
    connected = connection.sock
    assert connected is not None
    return connection.getresponse(), connected


def test_a_proxy_that_is_killed_leaves_no_key_outside_the_control_planes_folder(proxy: ApiProxy) -> None:
    (user,) = yaml.safe_load(proxy.kubeconfig.read_text())["users"]
    for path in (proxy.kubeconfig, Path(user["user"]["client-key"])):
        assert path.is_relative_to(proxy._upstream.parent)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_faults_the_proxy_is_not_noticed(testbed: Testbed, proxy: ApiProxy, through: Api) -> None:
    stored = through.create(config_map(testbed))
    assert through.get(stored) == testbed.api.get(stored)
    with pytest.raises(Conflict):
        through.replace({**stored, "metadata": {**stored["metadata"], "resourceVersion": "1"}})
    through.delete(stored)
    seen = [(record.request.verb, record.served, record.seen) for record in proxy.records(ours(testbed))]
    assert seen == [("create", 201, 201), ("get", 200, 200), ("update", 409, 409), ("delete", 200, 200)]


@pytest.mark.parametrize("code", [409, 410, 429, 500])
def test_a_client_gets_the_chosen_answer_as_often_as_asked(
    testbed: Testbed, proxy: ApiProxy, through: Api, code: int
) -> None:
    stored = testbed.api.create(config_map(testbed))
    fault = Fault(match=ours(testbed, "get"), action=Answer(code, retry_after_s=7), times=2)
    with proxy.fault(fault) as armed:
        for _ in range(2):
            with pytest.raises(ApiFault) as refusal:
                through.get(stored)
            assert refusal.value.status == code
            assert refusal.value.headers["Retry-After"] == "7"
            status = json.loads(refusal.value.body)
            assert (status["kind"], status["code"]) == ("Status", code)
            assert status["message"].endswith(f"proxy for: get configmaps {testbed.namespace}/one")
        assert through.get(stored) == stored
    assert (armed.met, armed.acted) == (3, 2)
    assert [record.forwarded for record in proxy.records(ours(testbed, "get"))] == [False, False, True]


@pytest.mark.parametrize("forwarded", [False, True])
def test_a_reset_write_was_done_only_if_it_was_forwarded(
    testbed: Testbed, proxy: ApiProxy, through: Api, forwarded: bool
) -> None:
    with (
        proxy.fault(Fault(match=ours(testbed, "create"), action=Reset(), forwarded=forwarded)),
        pytest.raises(urllib3.exceptions.ProtocolError, match="Connection aborted"),
    ):
        through.create(config_map(testbed))
    assert (testbed.api.find(config_map(testbed)) is not None) == forwarded
    (record,) = proxy.records(ours(testbed, "create"))
    assert (record.forwarded, record.served, record.seen, record.reset) == (
        forwarded,
        201 if forwarded else None,
        None,
        True,
    )


def test_a_done_write_may_answer_that_it_failed(testbed: Testbed, proxy: ApiProxy, through: Api) -> None:
    with (
        proxy.fault(Fault(match=ours(testbed, "create"), action=Answer(504), forwarded=True)),
        pytest.raises(ApiFault) as refusal,
    ):
        through.create(config_map(testbed))
    assert refusal.value.status == 504
    assert testbed.api.find(config_map(testbed)) is not None


def test_a_delayed_request_takes_at_least_so_long(testbed: Testbed, proxy: ApiProxy, through: Api) -> None:
    stored = testbed.api.create(config_map(testbed))
    with (
        proxy.fault(Fault(match=ours(testbed, "get"), action=Delay(0.2))),
        proxy.fault(Fault(match=ours(testbed, "get"), action=Delay(0.1), forwarded=True)),
    ):
        start = time.monotonic()
        through.get(stored)
        assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("forwarded", [False, True])
def test_a_request_waits_at_a_gate_until_it_is_opened(
    testbed: Testbed, proxy: ApiProxy, through: Api, forwarded: bool
) -> None:
    gate = Gate()
    with (
        proxy.fault(Fault(match=ours(testbed, "create"), action=gate, forwarded=forwarded)) as armed,
        ThreadPoolExecutor(1) as beside,
    ):
        created = beside.submit(through.create, config_map(testbed))
        wait_for("the request to wait", lambda: armed.acted == 1 or NotYet("none"))
        if forwarded:
            testbed.api.wait(config_map(testbed), lambda _: True)
        assert (testbed.api.find(config_map(testbed)) is not None) == forwarded
        assert not created.done()
        gate.open()
        assert created.result(LONG_S)["metadata"]["name"] == "one"


def test_held_watches_get_their_events_when_the_block_ends(testbed: Testbed, proxy: ApiProxy) -> None:
    path = f"/api/v1/namespaces/{testbed.namespace}/configmaps?watch=true&fieldSelector=metadata.name%3Dlate"
    answer, connected = watched(proxy, path)
    with connected:
        with proxy.watches_held(CONFIG_MAPS) as hold:
            testbed.api.create(config_map(testbed, "late"))
            wait_for("the event to reach the proxy", lambda: hold.held_bytes > 0 or NotYet("nothing held"))
            connected.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connected.recv(1)
            connected.settimeout(LONG_S)
            through_other, other = watched(proxy, "/api/v1/namespaces?watch=true")
            with other:  # what is not held goes on
                assert json.loads(through_other.readline())["type"] == "ADDED"
        event = json.loads(answer.readline())
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "late")


def test_watches_are_cut(testbed: Testbed, proxy: ApiProxy) -> None:
    _, connected = watched(proxy, f"/api/v1/namespaces/{testbed.namespace}/secrets?watch=true")
    with connected:
        assert proxy.cut(Match(resources=["configmaps"])) == 0
        assert proxy.cut(Match(resources=["secrets"])) == 1
        # Below TLS: Python's ssl takes a reset for an end of file.
        with socket.socket(fileno=os.dup(connected.fileno())) as raw, pytest.raises(ConnectionResetError):
            list(iter(lambda: raw.recv(1 << 16), b""))


def test_a_watch_hears_of_an_expired_version_by_an_event(testbed: Testbed, proxy: ApiProxy) -> None:
    path = f"/api/v1/namespaces/{testbed.namespace}/secrets?watch=true"
    with proxy.fault(Fault(match=Match(resources=["secrets"]), action=Answer(410))):
        answer, connected = watched(proxy, path)
    with connected:
        event = json.loads(answer.readline())
        assert (answer.status, event["type"], event["object"]["reason"]) == (200, "ERROR", "Expired")


def test_only_the_bearer_of_the_proxys_kubeconfig_acts_as_its_user(proxy: ApiProxy) -> None:
    (cluster,) = yaml.safe_load(proxy.kubeconfig.read_text())["clusters"]
    with urllib3.PoolManager(ca_certs=cluster["cluster"]["certificate-authority"]) as stranger:
        answer = stranger.request("GET", f"{cluster['cluster']['server']}/api/v1/pods", retries=False)
        assert answer.status == 403
        assert "system:anonymous" in answer.json()["message"]
        token = stranger.request(
            "GET", f"{cluster['cluster']['server']}/api/v1/pods", headers={"Authorization": "Bearer no"}, retries=False
        )
        assert token.status == 401
    assert (proxy.kubeconfig.stat().st_mode & 0o777, proxy.kubeconfig.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_an_upgrade_is_refused_with_a_status(proxy: ApiProxy) -> None:
    path = "/api/v1/namespaces/default/pods/none/exec"
    answer, connected = watched(proxy, path, Connection="Upgrade", Upgrade="websocket")
    with connected:
        assert (answer.status, json.loads(answer.read())["reason"]) == (501, "NotImplemented")


def test_kubectl_retries_429_after_the_time_that_it_is_told(testbed: Testbed, proxy: ApiProxy) -> None:
    kubectl = had_or_skipped(lambda: tools.provide(["kubectl"])["kubectl"])
    testbed.api.create(config_map(testbed))
    command: list[str | Path] = [kubectl, "--kubeconfig", proxy.kubeconfig, "--namespace", testbed.namespace]
    with proxy.fault(Fault(match=ours(testbed, "get"), action=Answer(429, retry_after_s=1), times=2)):
        command += ["get", "configmap", "one", "-o", "name"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "configmap/one\n"), done.stderr
    first, second, third = proxy.records(ours(testbed, "get"))
    assert [first.seen, second.seen, third.seen] == [429, 429, 200]
    assert min(second.at_s - first.at_s, third.at_s - second.at_s) >= 0.9


def test_a_scheduler_behind_the_proxy_binds_again_after_a_refused_binding(testbed: Testbed, proxy: ApiProxy) -> None:
    testbed.add_nodes(objects.node("behind"))
    options = SchedulerOptions(configuration={"profiles": [{"schedulerName": "behind"}]}, kubeconfig=proxy.kubeconfig)
    scheduler = SecondScheduler.start(testbed.control_plane, "behind-the-proxy", options)
    bindings = Match(verbs=["create"], resources=["pods/binding"], namespaces=[testbed.namespace])
    with proxy.fault(Fault(match=bindings, action=Answer(500), times=1)):
        testbed.run(objects.pod(testbed.namespace, "ours", scheduler="behind"))
    scheduler.stop()
    assert [record.seen for record in proxy.records(bindings)] == [500, 201]


def test_faults_change_while_requests_are_served(testbed: Testbed, proxy: ApiProxy, through: Api) -> None:
    """A hanging request ends with its client, and does not keep others."""
    stored = testbed.api.create(config_map(testbed))
    hung = threading.Event()
    with proxy.fault(Fault(match=ours(testbed, "list"), action=Delay(float("inf")))):
        client = threading.Thread(target=lambda: (_listed(through, testbed), hung.set()))
        client.start()
        wait_for("the list to hang", lambda: bool(proxy.records(ours(testbed, "list"))) or NotYet("no list"))
        assert testbed.api.get(stored) == stored
        assert not hung.is_set()
        assert proxy.cut(ours(testbed, "list")) == 1
        client.join()
    assert hung.is_set()


def _listed(api: Api, testbed: Testbed) -> None:
    with pytest.raises(urllib3.exceptions.ProtocolError):
        api.list("v1", "ConfigMap", testbed.namespace)
