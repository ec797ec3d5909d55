"""Classes speak before the claim, the last one wins, and each speaks for its own requests alone."""

import pytest

from dra_driver.config.merge import settings_for
from dra_driver.config.model import Settings, Strategy
from dra_driver.errors import PermanentError
from kube.objects_claims import DeviceAllocationConfiguration
from kube.objects_devices import OpaqueDeviceConfiguration

HEAD = {"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig"}
MPS_HALF = {**HEAD, "sharing": {"strategy": "mps", "mps": {"activeThreadPercentage": 50}}}
MPS = {**HEAD, "sharing": {"strategy": "mps"}}
EXCLUSIVE = {**HEAD, "sharing": {"strategy": "exclusive"}}


def entry(parameters, source="FromClaim", requests=(), driver="gpu.dovetail.dev"):
    opaque = OpaqueDeviceConfiguration(driver=driver, parameters=parameters)
    return DeviceAllocationConfiguration(source=source, requests=requests, opaque=opaque)


def test_nothing_said_means_nothing_set():
    assert settings_for((), "gpu") == Settings()
    assert settings_for((entry(HEAD),), "gpu") == Settings()


@pytest.mark.parametrize("claim_first", [False, True])
def test_the_claim_wins_over_its_class_in_whatever_order_they_come(claim_first):
    entries = [entry(MPS_HALF, "FromClass"), entry(EXCLUSIVE)]
    assert settings_for(entries[:: -1 if claim_first else 1], "gpu").strategy is Strategy.EXCLUSIVE


def test_of_several_the_last_wins():
    assert settings_for((entry(EXCLUSIVE), entry(MPS)), "gpu").strategy is Strategy.MPS


def test_sharing_is_taken_as_a_whole():
    assert settings_for((entry(MPS_HALF, "FromClass"), entry(MPS)), "gpu") == Settings(strategy=Strategy.MPS)


def test_a_configuration_without_sharing_leaves_that_of_others():
    linked = {**HEAD, "link": {"wish": "require"}}
    assert settings_for((entry(MPS, "FromClass"), entry(linked)), "gpu").strategy is Strategy.MPS


@pytest.mark.parametrize(
    ("requests", "request_name", "concerned"),
    [
        ((), "gpu", True),
        (("gpu",), "gpu", True),
        (("other",), "gpu", False),
        (("gpu",), "gpu/small", True),
        (("gpu/small",), "gpu/small", True),
        (("gpu/large",), "gpu/small", False),
        (("gp",), "gpu", False),
    ],
)
def test_an_entry_is_for_the_requests_it_names(requests, request_name, concerned):
    found = settings_for((entry(EXCLUSIVE, requests=requests),), request_name)
    assert found == Settings(strategy=Strategy.EXCLUSIVE if concerned else Strategy.DEFAULT)


def test_other_drivers_are_not_read():
    assert settings_for((entry({"anything": 1}, driver="gpu.nvidia.com"),), "gpu") == Settings()


def test_a_fault_is_told_even_where_a_later_one_would_replace_it():
    with pytest.raises(PermanentError, match=r"FromClass config\[0\]: opaque parameters: \$\.nope: "):
        settings_for((entry({**HEAD, "nope": 1}, "FromClass"), entry(MPS)), "gpu")


def test_what_is_newer_than_we_are_is_never_ignored():
    with pytest.raises(PermanentError, match="FromPod"):
        settings_for((entry(MPS, "FromPod"),), "gpu")
    with pytest.raises(PermanentError, match="of a type"):
        settings_for((DeviceAllocationConfiguration(source="FromClaim"),), "gpu")
