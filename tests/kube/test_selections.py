"""What selectors admit, and what is said when one fails."""

from __future__ import annotations

import pytest

from packing.dra.model import SelectorError
from tests.kube.asking import claim_of, exactly, refused, resolve, shelf
from tests.kube.builders import DRIVER, claim, device, slice_of


def test_the_class_is_asked_before_the_request():
    reads_uuid = f'device.attributes["{DRIVER}"].uuid != ""'
    slices = [slice_of("s", [device("gpu-0", {"type": "gpu", "uuid": "u"}), device("mig-0", {"type": "mig"})])]
    around = shelf(claim_of([exactly("gpu", DRIVER, reads_uuid)]), slices=slices)
    selection = resolve(around).ask.claims[0].requests[0].alternatives[0].selection
    assert selection.mask(around.pools()[0]) == 0b01, (
        "the class keeps the request's selector from the device without uuid"
    )


def test_a_selector_that_fails_names_request_expression_and_device():
    slices = [slice_of("s", [device("gpu-0", {"type": "gpu", "uuid": "u"}), device("gpu-1", {"type": "gpu"})])]
    around = shelf(claim_of([exactly("gpu", DRIVER, f'device.attributes["{DRIVER}"].uuid != ""')]), slices=slices)
    selection = resolve(around).ask.claims[0].requests[0].alternatives[0].selection
    for _ in range(2):
        with pytest.raises(SelectorError) as caught:
            selection.mask(around.pools()[0])
    for part in ("claim default/claim-1, request gpu", "selector 0", "uuid", f"{DRIVER}/pool/gpu-1", "no such key"):
        assert part in str(caught.value)


def test_a_selector_of_a_class_that_fails_names_the_class():
    slices = [slice_of("s", [device("gpu-0", {"uuid": "u"})])]
    around = shelf(claim(), slices=slices)
    selection = resolve(around).ask.claims[0].requests[0].alternatives[0].selection
    with pytest.raises(SelectorError, match=rf"^class {DRIVER}: selector 1 `.*` failed on device {DRIVER}/pool/gpu-0"):
        selection.mask(around.pools()[0])


def test_a_selector_that_does_not_compile_is_refused():
    text = refused(shelf(claim_of([exactly("gpu", DRIVER, "device.driver ==")]))).text
    assert text.startswith("claim default/claim-1, request gpu: selector 0 `device.driver ==` does not compile")
