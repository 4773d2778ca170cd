"""Explore says what became of the network where whole channels went, and only there."""

import re

import pytest

SMALL = {"model": "digits-cnn", "samples": "100", "damping": "1e-2", "sparsity": "0.3"}


@pytest.mark.parametrize(("method", "said"), [("structured", True), ("woodfisher", False)])
def test_the_smaller_network_is_said(opened, method, said):
    """Fewer parameters and multiply-adds than before, in one sentence."""
    page = opened(method=method, **SMALL)
    assert not page.exception
    found = [text.value for text in page.markdown if "the network itself is smaller" in text.value]
    assert bool(found) == said
    if said:
        left, parameters, work, all_work = (int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", found[0]))
        assert left < 0.8 * parameters
        assert work < all_work
