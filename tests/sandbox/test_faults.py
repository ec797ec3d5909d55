"""Requests are named as RBAC names them, and faults strike exactly those that they match, as often as they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.chaos.apirequest import ApiRequest, parse
from sandbox.chaos.faults import Answer, Delay, Fault, Faults, Match, Reset

PODS = "/api/v1/namespaces/team/pods"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/team/resourceclaims"


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", f"{PODS}/a", ("get", "", "pods", "team", "a")),
        ("GET", PODS, ("list", "", "pods", "team", "")),
        ("HEAD", f"{PODS}/a", ("get", "", "pods", "team", "a")),
        ("GET", "/api/v1/pods?watch=true&resourceVersion=5", ("watch", "", "pods", "", "")),
        ("GET", "/api/v1/pods?watch=1", ("watch", "", "pods", "", "")),
        ("GET", "/api/v1/pods?watch=false", ("list", "", "pods", "", "")),
        ("GET", "/api/v1/watch/namespaces/team/pods", ("watch", "", "pods", "team", "")),
        ("GET", f"{PODS}?fieldSelector=spec.nodeName%3D,metadata.name%3Da", ("list", "", "pods", "team", "a")),
        ("POST", PODS, ("create", "", "pods", "team", "")),
        ("POST", f"{PODS}/a/binding", ("create", "", "pods/binding", "team", "a")),
        ("PATCH", f"{PODS}/a/status?fieldManager=x", ("patch", "", "pods/status", "team", "a")),
        ("PUT", f"{CLAIMS}/c/status", ("update", "resource.k8s.io", "resourceclaims/status", "team", "c")),
        ("DELETE", f"{CLAIMS}/c", ("delete", "resource.k8s.io", "resourceclaims", "team", "c")),
        ("DELETE", CLAIMS, ("deletecollection", "resource.k8s.io", "resourceclaims", "team", "")),
        ("GET", "/api/v1/namespaces", ("list", "", "namespaces", "", "")),
        ("GET", "/api/v1/namespaces/team", ("get", "", "namespaces", "team", "team")),
        ("PUT", "/api/v1/namespaces/team/finalize", ("update", "", "namespaces/finalize", "team", "team")),
        ("GET", "/readyz?verbose", ("get", "", "", "", "")),
        ("GET", "/apis/resource.k8s.io/v1", ("get", "", "", "", "")),
        ("GET", "/", ("get", "", "", "", "")),
    ],
)
def test_requests_are_named_as_the_api_server_names_them(
    method: str, target: str, expected: tuple[str, str, str, str, str]
) -> None:
    """The table of k8s.io/apiserver's requestinfo_test.go, as far as it concerns our resources."""
    request = parse(method, target)
    assert (request.verb, request.group, request.resource, request.namespace, request.name) == expected


@given(st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]), st.text(max_size=60))
def test_no_target_breaks_the_parser(method: str, tail: str) -> None:
    assert parse(method, f"/{tail}").path.startswith("/") or "//" in f"/{tail}"


BINDING = ApiRequest(
    verb="create", path="/p", resource="pods/binding", namespace="team", name="a-1", user_agent="kube-scheduler/v1"
)


@pytest.mark.parametrize(
    ("match", "accepted"),
    [
        (Match(), True),
        (Match(verbs=["create"], resources=["pods/binding"]), True),
        (Match(verbs=["update", "create"], resources=["pods*"], names=["a-*"]), True),
        (Match(user_agents=["kube-scheduler/*"]), True),
        (Match(resources=["pods"]), False),
        (Match(verbs=["update"], resources=["pods/binding"]), False),
        (Match(groups=["resource.k8s.io"]), False),
        (Match(namespaces=["other"]), False),
        (Match(names=["b-*"]), False),
    ],
)
def test_every_field_of_a_match_must_accept(match: Match, accepted: bool) -> None:
    assert match.accepts(BINDING) is accepted


def test_a_match_refuses_a_bare_text() -> None:
    with pytest.raises(TypeError, match=r"Match\.verbs is a collection of patterns, not one text"):
        Match(verbs="create")


@pytest.mark.parametrize(("change", "words"), [({"probability": 0.0}, "probability is 0"), ({"times": 0}, "times 0")])
def test_faults_that_could_never_act_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fault(action=Reset(), **change)  # type: ignore[arg-type]


def strikes(fault: Fault, requests: int) -> list[int]:
    """Which of so many equal requests a fault acts on."""
    faults = Faults()
    armed = faults.add(fault)
    hit = [at for at in range(requests) if faults.striking(BINDING)]
    assert (armed.met, armed.acted) == (requests, len(hit))
    return hit


@given(st.integers(0, 5), st.integers(1, 5))
def test_a_fault_skips_acts_and_stops(skip: int, times: int) -> None:
    hit = strikes(Fault(action=Reset(), skip=skip, times=times), 12)
    assert hit == list(range(skip, skip + times))


def test_the_same_seed_strikes_the_same_requests_and_about_the_asked_part() -> None:
    fault = Fault(action=Reset(), probability=0.25, seed=7)
    hit = strikes(fault, 2000)
    assert hit == strikes(fault, 2000)
    assert hit != strikes(Fault(action=Reset(), probability=0.25, seed=8), 2000)
    assert 400 < len(hit) < 600  # 500 expected, and five standard deviations are 97


def test_delays_add_up_and_the_first_answer_has_the_last_word() -> None:
    faults = Faults()
    first, second = Fault(action=Delay(0.1)), Fault(action=Delay(0.2))
    last, never = Fault(action=Answer(500)), Fault(action=Reset(), times=1)
    armed = [faults.add(each) for each in (first, second, last, never)]
    assert faults.striking(BINDING) == [first, second, last]
    faults.remove(armed[2])
    assert faults.striking(BINDING) == [first, second, never]
    assert faults.striking(BINDING) == [first, second]


def test_a_create_that_conflicts_already_exists_and_an_update_is_in_conflict() -> None:
    update = ApiRequest(verb="update", path="/p", resource="pods", name="a")
    assert Answer(409).status(BINDING)["reason"] == "AlreadyExists"
    assert Answer(409).status(update)["reason"] == "Conflict"
    assert Answer(429, retry_after_s=3).status(update)["details"]["retryAfterSeconds"] == 3
