"""`dovetail config check` says what nodes would say, in files as people and kubectl write them."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dovetail.cli import app
from dra_driver.config.schema import json_schema
from topology.errors import InvalidInputError

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "apiVersion": "gpu.dovetail.dev/v1alpha1",
    "kind": "GpuConfig",
    "sharing": {"strategy": "mps", "mps": {"activeThreadPercentage": 30, "pinnedMemoryLimit": "10Gi"}},
}
BAD = {**GOOD, "sharing": {"strategy": "TimeSlicing"}}


def opaque(parameters, driver="gpu.dovetail.dev"):
    return {"opaque": {"driver": driver, "parameters": parameters}}


def claim(*config, name="a"):
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"devices": {"config": list(config)}},
    }


def template(*config):
    spec = claim(*config)["spec"]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "t"},
        "spec": {"spec": spec},
    }


def device_class(*config):
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "c"},
        "spec": {"config": list(config)},
    }


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, ["config", *map(str, arguments)], input=stdin)


def rows(result):
    return json.loads(result.stdout)


def test_every_place_that_can_configure_us_is_looked_at(tmp_path):
    path = tmp_path / "all.yaml"
    documents = [
        claim(opaque({"a": "b"}, "gpu.nvidia.com"), opaque(GOOD)),
        template(opaque(GOOD)),
        device_class(opaque(GOOD)),
        GOOD,
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
        {"apiVersion": "v1", "kind": "List", "items": [claim(opaque(GOOD), name="b")]},
    ]
    path.write_text(yaml.safe_dump_all(documents))
    result = run("check", path, "-o", "json")
    assert result.exit_code == 0
    assert [(row["object"], row["config"]) for row in rows(result)] == [
        ("ResourceClaim team/a", "spec.devices.config[1]"),
        ("ResourceClaimTemplate t", "spec.spec.devices.config[0]"),
        ("DeviceClass c", "spec.config[0]"),
        ("GpuConfig", None),
        ("ResourceClaim team/b", "spec.devices.config[0]"),
    ]
    assert {row["means"] for row in rows(result)} == {"sharing: mps, threads 30 %, memory 10240 MiB"}


def test_a_fault_ends_with_1_and_names_file_object_path_and_remedy(tmp_path):
    path = tmp_path / "claim.json"
    path.write_text(json.dumps(claim(opaque(GOOD), opaque(BAD))))
    result = run("check", path)
    assert result.exit_code == 1
    line = result.stdout.splitlines()[-1]
    for part in (str(path), "team/a", "spec.devices.config[1]", "$.sharing.strategy", "time-slicing"):
        assert part in line


def test_several_files_and_stdin(tmp_path):
    path = tmp_path / "good.json"
    path.write_text(json.dumps(GOOD))
    result = run("check", path, "-", "-o", "json", stdin=yaml.safe_dump(BAD))
    assert result.exit_code == 1
    assert [(row["file"], row["ok"]) for row in rows(result)] == [(str(path), True), ("-", False)]


def test_nothing_to_check_is_said_and_is_no_fault():
    result = run("check", "-", stdin="kind: Pod\n")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing here is configured for gpu.dovetail.dev" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"kind": "GpuConfig", "kind": "GpuConfig"}', "repeats the key 'kind'"),
        ("kind: GpuConfig\nkind: GpuConfig\n", "repeats the key 'kind'"),
        ('{"kind": "GpuConfig", "x": NaN}', "is not JSON"),
        ("a: &x [1]\nb: *x\n", "alias"),
        ("- 1\n", "not an object"),
        ('{"kind": ', "is not JSON"),
    ],
)
def test_what_is_no_file_of_objects_is_bad_input(text, said):
    with pytest.raises(InvalidInputError, match=said):
        raise run("check", "-", stdin=text).exception


def test_deep_json_is_refused_by_its_path():
    text = '{"apiVersion": "gpu.dovetail.dev/v1alpha1", "kind": "GpuConfig", "x": ' + "[" * 5000 + "]" * 5000 + "}"
    result = run("check", "-", "-o", "json", stdin=text)
    assert result.exit_code == 1
    assert "nested deeper" in rows(result)[0]["problem"]


def test_the_schema_printed_is_the_one_published():
    result = run("schema")
    assert json.loads(result.stdout) == json_schema()
    published = ROOT / "docs" / "gpuconfig.schema.json"
    assert published.read_text() == result.stdout, "make it anew: dovetail config schema > docs/gpuconfig.schema.json"
