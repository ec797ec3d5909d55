"""`result.json`: what its numbers mean, its schema, and that the same inputs give the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from simulator.curves import LAST_BIN, bin_means, event_bins, fill_curve, percent, value_at
from simulator.fillrun import FillSpec, run_fill, variant_name
from simulator.provenance import inputs_of
from simulator.result import SCHEMA_PATH, Result, decode_result, encode_result, write_result
from simulator.sweep import Plan, run_sweep
from topology.errors import InvalidInputError

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(
    f"n{i},16000,65536,{2 if i % 2 else 4},{'T4' if i % 2 else 'G2'}\n" for i in range(6)
)
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n" + "".join(
    [f"w{i},2000,2048,1,1000,\n" for i in range(8)]
    + [f"s{i},1000,1024,1,{300 + 100 * (i % 4)},\n" for i in range(10)]
    + [f"q{i},4000,4096,4,1000,G2\n" for i in range(2)]
    + [f"c{i},4000,1024,0,0,\n" for i in range(3)]
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "openb_pod_list_tiny.csv").write_text(PODS)
    return Plan(
        nodes=tmp_path / "nodes.csv",
        pods=(tmp_path / "openb_pod_list_tiny.csv",),
        arrivals=None,
        policies=("fgd", "dovetail", "random"),
        seeds=(1, 2),
        placements=True,
    )


def result_of(plan: Plan, jobs: int = 1) -> Result:
    sweep = run_sweep(plan.specs(), jobs=jobs)
    return Result(inputs=inputs_of(plan, "1.2.3"), runs=sweep.runs, complete=sweep.complete)


def test_bins_are_percent_of_demand_arrived_with_halves_to_the_even_bin() -> None:
    arrived = np.array([0, 4, 5, 6, 14, 15, 25, 1000], dtype=np.int64)
    assert event_bins(arrived, 1000).tolist() == [0, 0, 0, 1, 1, 2, 2, 100]


def test_a_bin_is_the_mean_of_its_rounded_events_and_null_without_any() -> None:
    means = bin_means(np.array([3, 3, 5, LAST_BIN + 1]), np.array([1.0, 2.01, 7.0, 99.0]), 2)
    assert (means[3], means[4], means[5]) == (1.5, None, 7.0)
    assert len(means) == LAST_BIN + 1


def test_shares_are_rounded_to_two_digits_and_nothing_idle_is_not_fragmented() -> None:
    assert percent(np.array([1, 2]), 3).tolist() == [33.33, 66.67]
    curve = fill_curve(np.array([100]), np.array([1000]), np.array([0.0]), 1000)
    assert curve.frag_ratio_pct[100] == 0
    assert curve.allocated_pct[100] == 100


def test_a_pod_may_jump_over_a_bin_but_demand_must_get_there() -> None:
    assert value_at((1.0, None, 3.0), 1) == 1.0
    assert value_at((1.0, None, None), 1) is None


@pytest.mark.parametrize(
    ("name", "variant"), [("openb_pod_list_cpu050.csv.gz", "cpu050"), ("mine.csv", "mine"), ("a.b.csv", "a.b")]
)
def test_a_pod_list_is_called_by_its_short_name(name: str, variant: str) -> None:
    assert variant_name(Path("/somewhere") / name) == variant


def test_result_follows_its_schema(plan: Plan) -> None:
    schema = json.loads(SCHEMA_PATH.read_text())
    written = json.loads(encode_result(result_of(plan)))
    jsonschema.validate(written, schema)
    assert {tuple(sorted(run)) for run in written["runs"]} == {tuple(sorted(schema["$defs"]["run"]["properties"]))}


def test_the_counts_of_a_run_agree_with_each_other(plan: Plan) -> None:
    for run in result_of(plan).runs:
        assert run.placements is not None
        assert run.placed + run.failed == run.arrived == len(run.placements)
        assert sum(failed.count for failed in run.failed_by) == run.failed
        assert sum(not pod.node for pod in run.placements) == run.failed
        gpus = [(pod.node, gpu) for pod in run.placements if pod.pod.startswith(("w", "q")) for gpu in pod.gpus]
        assert len(gpus) == len(set(gpus)), "a whole GPU was given twice"


def test_whoever_found_no_place_is_refused_by_every_node_at_the_end(plan: Plan) -> None:
    failed = [failed for run in result_of(plan).runs for failed in run.failed_by]
    assert failed
    assert {sum(reason.nodes for reason in kind.reasons) for kind in failed} == {6}


def test_pools_add_up_to_the_curve(plan: Plan) -> None:
    run = result_of(plan).runs[0]
    gpus = sum(pool.gpus for pool in run.pools)
    assert gpus == 18
    for percent_at, allocated in enumerate(run.curve.allocated_pct):
        parts = [pool.allocated_pct[percent_at] for pool in run.pools]
        if allocated is not None:
            total = sum(part * pool.gpus for part, pool in zip(parts, run.pools, strict=True) if part is not None)
            assert total / gpus == pytest.approx(allocated, abs=0.06)


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(plan: Plan) -> None:
    assert encode_result(result_of(plan)) == encode_result(result_of(plan, jobs=2))


def test_another_seed_gives_another_run(plan: Plan) -> None:
    first, second = (run for run in result_of(plan).runs if run.policy == "fgd")
    assert first.placements != second.placements


def test_a_result_survives_the_file_and_names_no_folder(plan: Plan, tmp_path: Path) -> None:
    result = result_of(plan)
    text = write_result(result, tmp_path / "out").read_text()
    assert decode_result(text) == result
    assert text.endswith("}\n")
    assert str(tmp_path) not in text
    written = json.loads(text)
    assert json.dumps(written) == json.dumps(written, sort_keys=True)


def test_placements_are_left_out_unless_asked_for(plan: Plan) -> None:
    spec = plan.specs()[0]
    bare = run_fill(FillSpec(nodes=spec.nodes, pods=spec.pods, arrivals=None, policy="fgd", seed=1))
    result = Result(inputs=inputs_of(plan, "1"), runs=(bare,))
    assert "placements" not in json.loads(encode_result(result))["runs"][0]
    assert decode_result(encode_result(result)) == result


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1}', "[]"])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        decode_result(text)


def test_a_result_of_another_version_is_refused(plan: Plan) -> None:
    text = encode_result(Result(inputs=inputs_of(plan, "1"), runs=()))
    with pytest.raises(InvalidInputError, match="v9"):
        decode_result(text.replace("result/v1", "result/v9"))


def test_a_cluster_without_gpus_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "bare.csv").write_text("sn,cpu_milli,memory_mib,gpu,model\nn,1000,1024,0,\n")
    spec = FillSpec(nodes=tmp_path / "bare.csv", pods=plan.pods[0], arrivals=None, policy="fgd", seed=1)
    with pytest.raises(InvalidInputError, match="no node has a GPU"):
        run_fill(spec)
