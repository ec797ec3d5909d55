"""The report: self-contained, the same bytes every time, readable by machines for the blind, and true to its result."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packing.model import Reason
from packing.policy import POLICIES
from simulator.curves import LAST_BIN, Curve
from simulator.objective import parse_objective
from simulator.report import render_report
from simulator.report.figures import spaced
from simulator.report.page import command
from simulator.report.palette import look
from simulator.result import FailedDemand, InputFile, Inputs, PodFile, PoolUse, Result, RunResult

VOID = {"meta", "br", "img", "link", "hr", "input"}
PLATEAU = {"fgd": 95.0, "dovetail": 96.5, "random": 88.0}


def curve(plateau: float) -> Curve:
    allocated = tuple(min(float(x), plateau) if x != 7 else None for x in range(LAST_BIN + 1))
    fragmented = tuple(None if value is None else round((100 - plateau) * value / 100, 2) for value in allocated)
    return Curve(
        arrived_pct=tuple(range(LAST_BIN + 1)),
        allocated_pct=allocated,
        fragmented_pct=fragmented,
        frag_ratio_pct=fragmented,
    )


def run(policy: str, seed: int, variant: str = "default", **changes: object) -> RunResult:
    plateau = PLATEAU.get(policy, 90.0) + seed / 100
    pool = PoolUse(pool="8xG2", nodes=12, gpus=96, allocated_pct=curve(plateau).allocated_pct)
    reason = Reason(text="not enough free GPUs", nodes=12)
    made = RunResult(
        variant=variant,
        policy=policy,
        seed=seed,
        curve=curve(plateau),
        unallocated_pct_at_100=round(100 - plateau, 2),
        unallocated_pct_at_130=round(100 - plateau, 2),
        arrived=1000,
        placed=900,
        failed=100,
        failed_by=(FailedDemand(demand="2 GPUs on <A & B>", count=100, reasons=(reason,)),),
        pools=(pool,) if seed == 1 else (),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def result(*runs: RunResult, complete: bool = True) -> Result:
    variants = list(dict.fromkeys(run.variant for run in runs))
    inputs = Inputs(
        dovetail="1.2.3",
        protocol="fill",
        tie_rule="The smallest rank wins.",
        cluster=InputFile(file="nodes.csv", sha256="a" * 64),
        nodes=12,
        gpus=1000,
        pods=tuple(PodFile(variant=v, file=f"{v}.csv", sha256="b" * 64, pods=10, rejected=0) for v in variants),
        arrivals=None,
        policies=tuple(dict.fromkeys(run.policy for run in runs)),
        seeds=tuple(sorted({run.seed for run in runs})),
    )
    return Result(inputs=inputs, runs=runs, complete=complete)


def usual(variant: str = "default") -> list[RunResult]:
    return [run(policy, seed, variant) for policy in PLATEAU for seed in (1, 3)]


class Page(HTMLParser):
    """Checks that tags close in order, and collects what a reader or a browser would look at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(result(*usual()))


def test_the_verdict_holds_the_numbers_of_the_result(html: str) -> None:
    # dovetail: 96.51 and 96.53 allocated; fgd: 95.01 and 95.03; of 1000 GPUs.
    said = re.search(r"<h1>(.*?)</h1>", html, re.DOTALL)
    assert said
    assert said[1] == (
        "Under dovetail, 3.48 % of the GPUs stay unallocated when demand reaches the size of the cluster: "
        "35 of 1,000, 15 fewer than under fgd."
    )
    assert "2 of 2" in Page(html).text


def test_a_verdict_against_us_is_told_as_plainly() -> None:
    losing = [run("dovetail", 1, unallocated_pct_at_100=9.0), run("fgd", 1, unallocated_pct_at_100=5.0)]
    assert "90 of 1,000, 40 more than under fgd." in render_report(result(*losing))
    equal = [run("dovetail", 1, unallocated_pct_at_100=5.0), run("fgd", 1, unallocated_pct_at_100=5.0)]
    assert "50 of 1,000, the same as under fgd." in render_report(result(*equal))


def test_a_difference_of_no_gpu_is_not_told_as_a_number() -> None:
    close = [run("dovetail", 1, unallocated_pct_at_100=5.02), run("fgd", 1, unallocated_pct_at_100=5.0)]
    assert "50 of 1,000, less than half a GPU more than under fgd." in render_report(result(*close))


def test_demand_that_never_filled_the_cluster_gives_no_verdict() -> None:
    small = run("fgd", 1, unallocated_pct_at_100=None, unallocated_pct_at_130=None)
    assert "no policy was put to the test" in render_report(result(small))


def test_a_run_in_which_nothing_was_measured_is_still_a_page() -> None:
    nothing = (None,) * (LAST_BIN + 1)
    empty = Curve(
        arrived_pct=tuple(range(LAST_BIN + 1)), allocated_pct=nothing, fragmented_pct=nothing, frag_ratio_pct=nothing
    )
    bare = run("fgd", 1, curve=empty, unallocated_pct_at_100=None, unallocated_pct_at_130=None, failed_by=(), pools=())
    assert "Every pod found a place." in render_report(result(bare))


def test_the_page_needs_no_network_and_no_script(html: str) -> None:
    page = Page(html)
    assert not [tag for tag, _, _ in page.attributes if tag in ("script", "link", "iframe", "object")]
    targets = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert all(value.startswith(("#", "data:")) for value in targets)
    assert not re.search(r"url\((?!\s*[\"']?(#|data:))", html)
    assert "@import" not in html


def test_the_same_result_gives_the_same_page(html: str) -> None:
    assert render_report(result(*usual())) == html


def test_every_figure_says_what_it_shows_and_no_two_share_an_id() -> None:
    html = render_report(result(*usual("a"), *usual("b")))
    svgs = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(svgs) == 2 * (4 + 2)
    for svg in svgs:
        # An inline SVG gets the XLink namespace from the HTML parser; XML wants it declared.
        tree = ET.fromstring(svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))
        assert tree.get("role") == "img"
        assert len(tree.get("aria-label", "")) > 40
    ids = [value for _, name, value in Page(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for _, name, value in Page(html).attributes if name in ("href", "xlink:href") and value[0] == "#"}
    used |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert used <= set(ids)


def test_drawings_take_their_colours_from_the_page(html: str) -> None:
    assert "#0102" not in html
    assert "var(--s0)" in html


def test_names_from_files_cannot_become_markup() -> None:
    evil = '<img src=x onerror="alert(1)">'
    html = render_report(result(run("dovetail", 1, evil), run("fgd", 1, evil), run(evil, 1, evil)))
    assert "<img" not in html
    assert "2 GPUs on &lt;A &amp; B&gt;" in html


def test_who_found_no_place_and_why_is_told(html: str) -> None:
    text = Page(html).text
    assert "2 GPUs on <A & B>" in text
    assert "12: not enough free GPUs" in text


def test_an_interrupted_simulation_says_so() -> None:
    html = render_report(result(*usual()[:3], complete=False))
    assert "stopped early" in html
    assert "3 runs" in Page(html).text


def test_objectives_are_told_with_who_misses_them() -> None:
    html = render_report(
        result(*usual()), [parse_objective("unallocated_pct_at_100<=6"), parse_objective("failed<=100")]
    )
    text = Page(html).text
    assert "Missed unallocated_pct_at_100 <= 6 : random on default" in text
    assert "Met failed <= 100" in text


def test_no_two_policies_look_alike_in_tables_and_figures() -> None:
    looks = [look(policy, "") for policy in POLICIES]
    assert len({(each.css, each.dash) for each in looks}) == len(looks)
    assert len({each.css_sample for each in looks}) == len(looks)
    html = render_report(result(run("upstream", 1), run("dot-product", 1)))
    assert html.count(f"background:{look('dot-product', '').css_sample}") == 1
    # One line in the plot and one beside the label, in each of the three figures with curves.
    assert html.count("stroke-dasharray: 7,2.24") == 6


def test_the_page_claims_no_more_than_this_release_does(html: str) -> None:
    text = Page(html).text
    assert "decides in the scheduler" not in text
    assert "this release has no scheduler" in text
    assert "under the first thing it lacks" in text
    assert "At 100 % nothing idle" not in text


def test_method_ties_seeds_and_digests_are_told(html: str) -> None:
    text = Page(html).text
    assert "The smallest rank wins." in text
    assert "Seeds. 1, 3." in text
    assert "a" * 64 in text
    assert command(result(*usual())) in text


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted))
def test_labels_never_overlap_and_stay_inside(wished: list[float]) -> None:
    placed = spaced(wished, 0.055)
    assert all(upper - lower >= 0.055 - 1e-9 for lower, upper in itertools.pairwise(placed))
    assert all(-1e-9 <= position <= 1 + 1e-9 for position in placed)
    if all(upper - lower >= 0.056 for lower, upper in itertools.pairwise(wished)):
        assert placed == wished
