"""Link wishes of opaque configuration, and what makes two asks the same."""

from __future__ import annotations

from typing import Any

import pytest

from kube.claims import Claims
from packing.model import LinkWish
from tests.kube.asking import GPU, OTHER, claim_of, device_class, exactly, refused, resolve, shelf
from tests.kube.builders import DRIVER, claim, pod


class TestLinkWishes:
    @staticmethod
    def config(link: Any, requests: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
        parameters = {"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig", "link": link, **more}
        return {"requests": list(requests), "opaque": {"driver": DRIVER, "parameters": parameters}}

    def test_none_said_is_prefer(self):
        (only,) = resolve(shelf(claim())).ask.claims[0].requests[0].alternatives
        assert (only.link, only.min_gbps) == (LinkWish.PREFER, 0)

    def test_the_claim_wins_over_the_class_and_the_last_over_the_first(self):
        of_class = device_class("linked", GPU, config=[{"opaque": self.config({"wish": "none"})["opaque"]}])
        config = [
            self.config({"wish": "prefer"}, ("b", "c")),
            self.config({"wish": "require", "minGBps": 200}, ("c/x",), sharing={"strategy": "MPS"}),
        ]
        subs = [{"name": "x", "deviceClassName": "linked"}, {"name": "y", "deviceClassName": "linked"}]
        requests = [exactly("a", "linked"), exactly("b", "linked"), {"name": "c", "firstAvailable": subs}]
        found = resolve(shelf(claim_of(requests, config=config), classes=(of_class,))).ask.claims[0].requests
        links = {each.name: (each.link, each.min_gbps) for request in found for each in request.alternatives}
        assert links == {
            "a": (LinkWish.NONE, 0),
            "b": (LinkWish.PREFER, 0),
            "c/x": (LinkWish.REQUIRE, 200),
            "c/y": (LinkWish.PREFER, 0),
        }

    @pytest.mark.parametrize("parameters", [{"sharing": {}}, {"kind": "Anything"}, None, 3, []])
    def test_what_is_not_about_links_is_the_drivers(self, parameters: Any):
        config = [{"opaque": {"driver": DRIVER, "parameters": parameters}}]
        assert resolve(shelf(claim_of([exactly()], config=config))).ask.claims

    def test_other_drivers_may_say_link(self):
        config = [{"opaque": {"driver": OTHER, "parameters": {"link": 3}}}]
        assert resolve(shelf(claim_of([exactly()], config=config))).ask.claims

    @pytest.mark.parametrize(
        ("link", "path"),
        [
            ({}, "$.link"),
            ({"wish": "please"}, "$.link.wish"),
            ({"wish": "require", "minGbps": 5}, "minGbps"),
            ({"wish": "require", "minGBps": "5"}, "$.link.minGBps"),
            ({"wish": "require", "minGBps": -5}, "$.link.minGBps"),
            ({"wish": "prefer", "minGBps": 5}, "$.link.minGBps"),
            (None, "$.link"),
        ],
    )
    def test_a_wish_that_cannot_be_read_is_refused_with_its_path(self, link: Any, path: str):
        refusal = refused(shelf(claim_of([exactly()], config=[self.config(link)])))
        assert refusal.text.startswith("claim default/claim-1: config 0: opaque parameters: ")
        assert path in refusal.text

    def test_a_class_is_named(self):
        config = [{"opaque": self.config({"wish": 1})["opaque"]}]
        refusal = refused(shelf(claim_of([exactly("a", "linked")]), classes=(device_class("linked", config=config),)))
        assert refusal.text.startswith("class linked: config 0: opaque parameters: ")


class TestSignatures:
    def of(
        self, request: dict[str, Any], name: str = "claim-1", pod_name: str = "pod-1", cpu: str = "1", **devices: Any
    ):
        around = shelf(claim_of([request], name, **devices))
        return Claims().resolve(pod(pod_name, claims=[name], cpu=cpu), around).ask.signature

    def test_names_and_uids_do_not_count(self):
        assert self.of(exactly(count=2)) == self.of(exactly("other", count=2), "claim-2", "pod-2")
        constraint = [{"requests": ["gpu"], "matchAttribute": "a.b/c"}]
        renamed = [{"requests": ["other"], "matchAttribute": "a.b/c"}]
        assert self.of(exactly(), constraints=constraint) == self.of(exactly("other"), constraints=renamed)
        hash(self.of(exactly(), constraints=constraint))

    @pytest.mark.parametrize(
        "other",
        [
            exactly(count=3),
            exactly("gpu", DRIVER, "true", count=2),
            exactly(allocationMode="All"),
            exactly(count=2, tolerations=[{"operator": "Exists"}]),
            exactly(count=2, capacity={"requests": {"memory": "1Gi"}}),
        ],
    )
    def test_all_that_is_asked_counts(self, other: dict[str, Any]):
        assert self.of(exactly(count=2)) != self.of(other)

    def test_cores_constraints_and_links_count(self):
        plain = self.of(exactly(count=2))
        assert plain != self.of(exactly(count=2), cpu="2")
        assert plain != self.of(exactly(count=2), constraints=[{"matchAttribute": "a.b/c"}])
        assert plain != self.of(exactly(count=2), config=[TestLinkWishes.config({"wish": "none"})])
