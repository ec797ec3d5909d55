"""JSON nested so deeply that decoders refuse it harms nothing but itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.decoding import decoder
from kube.depth import KEPT_DEPTH, MAX_DEPTH, shallow
from kube.kinds import CLAIMS
from tests.kube.samples import CLAIM


@pytest.mark.parametrize("opening", ['{"a":', "["])
@pytest.mark.parametrize("levels", [MAX_DEPTH, MAX_DEPTH + 1, 500, 990, 2000, 100_000])
def test_deep_parameters_make_one_claim_malformed_and_stop_nothing(opening: str, levels: int) -> None:
    """A user may write 10 KiB of brackets; decoders would refuse the whole page for it, or end with RecursionError."""
    deep = opening * levels + "1" + ("}" if "{" in opening else "]") * levels
    text = json.dumps(CLAIM | {"metadata": {"name": "deep", "namespace": "ns"}}).replace('{"kind": "GpuConfig"', "@", 1)
    text = text.replace("@", f'{{"deep": {deep}, "kind": "GpuConfig"')
    page = decoder(CLAIMS).page(f'{{"metadata": {{}}, "items": [{json.dumps(CLAIM)}, {text}]}}'.encode())
    names = [each.metadata.name for each in page.objects]
    assert names == ["claim", "deep"], "its devices are known all the same"
    assert bool(page.objects[1].spec.devices.requests) == (levels < MAX_DEPTH)
    told = [str(fault) for fault in page.malformed]
    assert len(told) == (levels >= MAX_DEPTH)
    assert all("deeper than 100 levels at $.spec.devices.config[0].opaque" in fault for fault in told)
    ignored = text.replace('"parameters"', '"notRead"')
    assert decoder(CLAIMS).one(ignored.encode()).metadata.name == "deep"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_shallow_json_is_left_as_it_is(value: object) -> None:
    text = json.dumps(value).encode()
    assert shallow(text) == text


@given(values, st.integers(0, 3))
def test_what_is_cut_off_is_null_and_the_rest_stays(value: object, more: int) -> None:
    levels = KEPT_DEPTH + more
    text = b"[" * levels + json.dumps({"a": value}).encode() + b', "after"]' + b"]" * (levels - 1)
    cut = json.loads(shallow(text))
    for _ in range(KEPT_DEPTH - 1):
        (cut,) = cut
    assert cut == ([None, "after"] if more == 0 else [None])
