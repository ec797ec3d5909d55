"""Names, attributes and capacities are those of NVIDIA's DRA driver (its 0.5, partitionable devices), plus ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dra_driver.inventory import MIB
from dra_driver.publish import DRIVER_NAME, resource_slices
from dra_driver.publish.quantities import count, size, version
from tests.dra_driver.apirules import amount, devices
from tests.dra_driver.nodes import GEOMETRIES, gpu, gpu_with_everything, node
from topology.catalog import mig_geometry
from topology.errors import InvalidInputError

STANDARD = "resource.kubernetes.io/"
NVIDIA_COMMON = {
    "type",
    "productName",
    "brand",
    "architecture",
    "cudaComputeCapability",
    "driverVersion",
    "cudaDriverVersion",
    "addressingMode",
    f"{STANDARD}pciBusID",
    f"{STANDARD}pcieRoot",
    f"{STANDARD}numaNode",
}
NVIDIA_GPU = NVIDIA_COMMON | {"uuid"}
NVIDIA_MIG = NVIDIA_COMMON | {"parentUUID", "profile"}
NVIDIA_CAPACITY = {
    "multiprocessors",
    "copyEngines",
    "decoders",
    "encoders",
    "jpegEngines",
    "ofaEngines",
    "memory",
}
OURS_EVERYWHERE = {"index", "isolation", "nics"}
OURS_GPU = {
    "migCapable",
    "nicLevel",
    "nvlinkClique",
    "nvlinkDomain",
    "nvlinkLinks",
    "nvlinkMBps",
    "nvlinkPeers",
    "nvswitch",
    "pcieLevels",
}


def complete() -> dict[str, Any]:
    h100 = mig_geometry("h100-80gb")
    return devices(resource_slices(node(gpu_with_everything(h100, 0, 2), gpu_with_everything(h100, 1, 2))))


def test_a_gpu_of_the_h100_family_is_26_devices_as_with_nvidia_and_two_kinds_of_share() -> None:
    listed = devices(resource_slices(node(gpu(mig_geometry("h100-80gb"), minor=3))))
    kinds = [device["attributes"]["type"]["string"] for device in listed.values()]
    assert (kinds.count("gpu"), kinds.count("mig"), kinds.count("share")) == (1, 25, 2)
    expected = {"gpu-3", "gpu-3-mig-1g10gb-19-0", "gpu-3-mig-1g10gb-me-20-5", "gpu-3-mig-1g20gb-15-6"}
    expected |= {"gpu-3-mig-3g40gb-9-4", "gpu-3-mig-4g40gb-5-0", "gpu-3-mig-7g80gb-0-0", "gpu-3-mps"}
    assert expected <= set(listed)


def test_counters_are_named_as_nvidia_names_them() -> None:
    counters = resource_slices(node(gpu(mig_geometry("h100-80gb"))))[0]["spec"]["sharedCounters"]
    assert [counter_set["name"] for counter_set in counters] == ["gpu-0-counter-set"]
    # Encoders, of which a compute part has none, are no counter here: zero of zero says nothing.
    assert {name: amount(value["value"]) for name, value in counters[0]["counters"].items()} == {
        "multiprocessors": 132,
        "copy-engines": 8,
        "decoders": 7,
        "jpeg-engines": 7,
        "ofa-engines": 1,
        "memory": 81152 * MIB,
    } | {f"memory-slice-{at}": 1 for at in range(8)}


def test_a_partition_consumes_as_in_kep_4815() -> None:
    listed = devices(resource_slices(node(gpu(mig_geometry("h100-80gb")))))
    (taken,) = listed["gpu-0-mig-3g40gb-9-4"]["consumesCounters"]
    assert taken["counterSet"] == "gpu-0-counter-set"
    assert {name: value["value"] for name, value in taken["counters"].items()} == {
        "multiprocessors": "60",
        "copy-engines": "3",
        "decoders": "3",
        "jpeg-engines": "3",
        "memory": "40448Mi",
    } | {f"memory-slice-{at}": "1" for at in range(4, 8)}


@pytest.mark.parametrize(
    ("name", "attributes", "capacity"),
    [
        ("gpu-100", NVIDIA_GPU | OURS_EVERYWHERE | OURS_GPU, NVIDIA_CAPACITY),
        (
            "gpu-100-mig-2g20gb-14-2",
            NVIDIA_MIG | OURS_EVERYWHERE | {"placementStart", "placementSize"},
            NVIDIA_CAPACITY,
        ),
        (
            "gpu-100-mps",
            NVIDIA_COMMON | OURS_EVERYWHERE | {"parentUUID", "sharing"},
            {"memory", "computeMilli"},
        ),
    ],
)
def test_attributes_and_capacities_are_nvidias_and_ours(name: str, attributes: set[str], capacity: set[str]) -> None:
    device = complete()[name]
    assert set(device["attributes"]) == attributes
    assert set(device["capacity"]) == capacity


def test_values_of_a_partition() -> None:
    device = complete()["gpu-100-mig-1g20gb-15-6"]
    assert device["attributes"]["profile"] == {"string": "1g.20gb"}
    assert device["attributes"]["placementStart"] == {"int": 6}
    assert device["attributes"]["placementSize"] == {"int": 2}
    assert device["attributes"]["driverVersion"] == {"version": "580.105.8"}
    assert {name: amount(value["value"]) for name, value in device["capacity"].items()} == {
        "multiprocessors": 26,
        "copyEngines": 1,
        "decoders": 1,
        "encoders": 0,
        "jpegEngines": 1,
        "ofaEngines": 0,
        "memory": 20096 * MIB,
    }


def test_isolation_says_what_keeps_tenants_apart() -> None:
    kinds = {
        name: device["attributes"]["isolation"]["string"]
        for name, device in complete().items()
        if name.startswith("gpu-100")
    }
    assert kinds.pop("gpu-100-time-slicing") == "none"
    assert kinds.pop("gpu-100-mps") == "memory"
    assert set(kinds.values()) == {"hardware"}


def test_a_card_name_that_no_longer_fits_is_left_out_whole() -> None:
    nics = complete()["gpu-100"]["attributes"]["nics"]["string"].split(",")
    assert nics == [f"mlx5_bond_{at}" for at in range(5)]


def test_sizes_that_were_never_published_are_left_out() -> None:
    listed = devices(resource_slices(node(gpu(mig_geometry("gb300-278gb")))))
    partition = listed["gpu-0-mig-1g35gb-19-0"]
    assert "memory" not in partition["capacity"]
    assert "multiprocessors" not in partition["capacity"]
    assert "memory" not in partition["consumesCounters"][0]["counters"]
    assert listed["gpu-0"]["capacity"]["memory"] == {"value": "81559Mi"}


def test_what_cannot_be_matched_is_absent_and_what_can_be_compared_is_there() -> None:
    alone = devices(resource_slices(node(gpu())))["gpu-0"]["attributes"]
    assert not {"nvlinkDomain", "nvlinkClique", f"{STANDARD}numaNode", f"{STANDARD}pcieRoot"} & set(alone)
    assert (alone["nvlinkLinks"], alone["nvswitch"], alone["migCapable"]) == (
        {"int": 0},
        {"bool": False},
        {"bool": False},
    )


def test_docs_list_every_attribute_and_capacity_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
    tables = text[text.index("## Attributes") : text.index("## Faults")]
    rows = re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    published = {name for device in complete().values() for name in (*device["attributes"], *device["capacity"])}
    assert listed == published


@pytest.mark.parametrize(
    ("number", "decimal", "binary"),
    [(0, "0", "0"), (7, "7", "7"), (1000, "1k", "1k"), (1024, "1024", "1Ki"), (2**30, "1073741824", "1Gi"),
     (81559 * MIB, "85520809984", "81559Mi"), (5000, "5k", "5k"), (10**6, "1M", "1M")],
)  # fmt: skip
def test_quantities_are_written_as_the_api_server_stores_them(number: int, decimal: str, binary: str) -> None:
    assert (count(number), size(number)) == (decimal, binary)
    assert amount(decimal) == amount(binary) == number


@pytest.mark.parametrize(
    ("text", "semver"), [("580.105.08", "580.105.8"), ("13.0", "13.0.0"), ("9", "9.0.0"), ("450.80.02", "450.80.2")]
)
def test_versions_are_strict_semver(text: str, semver: str) -> None:
    assert version(text, "node n: driverVersion") == semver


@pytest.mark.parametrize("text", ["", "1.2.3.4", "580-server", "1..2", "-1.0", "٣.0", "1" * 10])
def test_a_version_that_is_none_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInputError, match="node n: driverVersion"):
        version(text, "node n: driverVersion")


def test_the_driver_name_is_ours() -> None:
    slices = resource_slices(node(gpu(GEOMETRIES[0])))
    assert {one["spec"]["driver"] for one in slices} == {DRIVER_NAME} == {"gpu.dovetail.dev"}
    assert {one["spec"]["pool"]["name"] for one in slices} == {"node-1/gpu.dovetail.dev"}
