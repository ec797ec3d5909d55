"""Requests for devices of drivers that we do not allocate for, or that no scheduler but the default one can give."""

from __future__ import annotations

import pytest

from kube.claims import Claims
from kube.coverage import named_driver
from kube.objects import DeviceClass
from kube.refusal import Refusal
from tests.kube.asking import OTHER, claim_of, device_class, exactly, refused, resolve, shelf
from tests.kube.builders import DRIVER, claim, decoded, device, machine_slices, pod, slice_of


@pytest.mark.parametrize(
    ("expression", "driver"),
    [
        ('device.driver == "a.b"', "a.b"),
        ("  (device.driver=='a.b')  ", "a.b"),
        ('device.driver == "a.b" && device.attributes["a.b"].x == 1', "a.b"),
        ('device.driver == "a.b" || device.driver == "c.d"', ""),
        ('device.driver == "a.b" && false || true', ""),
        ('device.driver == "a.b" ? false : true', ""),
        ('device.driver == "a.b" && true ? false : true', ""),
        ('!(device.driver == "a.b")', ""),
        ('device.driver != "a.b"', ""),
        ("true", ""),
    ],
)
def test_an_expression_that_is_true_of_one_driver_alone(expression: str, driver: str):
    assert named_driver([expression]) == driver


class TestDrivers:
    NIC = slice_of("nics", [device("nic-0", {"type": "nic"})], driver=OTHER, pool="nics")

    def test_a_driver_that_the_class_names(self):
        around = shelf(claim_of([exactly("nic", "nics")]), classes=(device_class("nics", driver=OTHER),))
        refusal = refused(around)
        assert (
            refusal.text
            == f"claim default/claim-1, request nic needs driver {OTHER}, for which Dovetail does not allocate"
        )
        assert f"--driver {OTHER}" in refusal.remedy

    def test_a_driver_whose_devices_alone_are_admitted(self):
        nics = decoded(
            {
                "metadata": {"name": "nics"},
                "spec": {"selectors": [{"cel": {"expression": f'device.driver != "{DRIVER}"'}}]},
            },
            DeviceClass,
        )
        around = shelf(
            claim_of([exactly("nic", "nics")]), classes=(nics,), slices=[*machine_slices("hgx-h100-8"), self.NIC]
        )
        assert f"needs driver {OTHER}" in refused(around).text

    def test_once_listed_it_is_served(self):
        around = shelf(
            claim_of([exactly("nic", "nics"), exactly()]),
            classes=(device_class("nics", driver=OTHER),),
            slices=[*machine_slices("hgx-h100-8"), self.NIC],
            drivers=[DRIVER, OTHER],
        )
        nic, gpu = (request.alternatives[0].selection for request in resolve(around).ask.claims[0].requests)
        masks = {pool.driver: (nic.mask(pool).bit_count(), gpu.mask(pool).bit_count()) for pool in around.pools()}
        assert masks == {DRIVER: (0, 8), OTHER: (1, 0)}

    def test_one_alternative_is_enough(self):
        subs = [{"name": "nic", "deviceClassName": "nics"}, {"name": "gpu", "deviceClassName": DRIVER}]
        around = shelf(
            claim_of([{"name": "any", "firstAvailable": subs}]), classes=(device_class("nics", driver=OTHER),)
        )
        assert resolve(around).ask.claims
        around = shelf(
            claim_of([{"name": "any", "firstAvailable": subs[:1]}]), classes=(device_class("nics", driver=OTHER),)
        )
        assert "request any/nic needs driver" in refused(around).text

    def test_all_devices_of_several_drivers_are_not_ours_to_give(self):
        everything = decoded({"metadata": {"name": "any"}}, DeviceClass)
        objects = {"classes": (everything,), "slices": [*machine_slices("hgx-h100-8"), self.NIC]}
        assert resolve(shelf(claim_of([exactly("x", "any")]), **objects)).ask.claims, "a GPU serves a request for one"
        assert (
            f"needs driver {OTHER}"
            in refused(shelf(claim_of([exactly("x", "any", allocationMode="All")]), **objects)).text
        )

    def test_new_slices_are_seen(self):
        claims = Claims()
        plain = decoded({"metadata": {"name": "any"}}, DeviceClass)
        around = shelf(claim_of([exactly("x", "any", allocationMode="All")]), classes=(plain,))
        wanted = pod(claims=["claim-1"])
        claims.resolve(wanted, around)
        around.put_slices([self.NIC])
        with pytest.raises(Refusal):
            claims.resolve(wanted, around)

    def test_devices_with_binding_conditions_alone(self):
        conditional = device("gpu-9", {"type": "gpu"}, bindingConditions=["ready"], bindingFailureConditions=["failed"])
        refusal = refused(shelf(claim(), slices=[slice_of("s", [conditional])]))
        assert f"binding conditions ({DRIVER}/pool/gpu-9), which Dovetail does not allocate" in refusal.text
        assert resolve(
            shelf(claim(), slices=[slice_of("s", [conditional, device("gpu-0", {"type": "gpu"})])])
        ).ask.claims
