"""The pages share one network: whoever runs it does so in his turn, for its tensors are exchanged while it runs."""

import copy

import pytest
import torch.nn.utils.stateless as stateless

from app.shared import workspace
from app.taking import files
from woodfisher_core.experiments import PruneConfig

PAGES = ("explore", "learn", "trust", "compensate", "compare", "speed", "sensitivity")


@pytest.mark.parametrize("name", PAGES)
def test_every_forward_pass_has_its_turn(opened, monkeypatch, name):
    """No network is run with other tensors outside the one computation at a time."""
    real, calls = stateless._functional_call, []

    def watched(module, *arguments, **options):
        shared = any(problem.model is module for problem in problems())
        calls.append((shared, workspace().cache.computing.mine))
        return real(module, *arguments, **options)

    def problems():
        cache = workspace().cache
        return [value for key, (value, _) in cache._entries.items() if key[0] == "problem"]

    monkeypatch.setattr(stateless, "_functional_call", watched)
    found = opened(f"app_pages/{name}.py", samples="50")
    assert not found.exception
    assert calls
    assert {mine for shared, mine in calls if shared} <= {True}


@pytest.mark.parametrize("what", ["page", "files"])
def test_every_copy_has_its_turn(opened, monkeypatch, what):
    """Nor is it copied meanwhile: the copy would have somebody else's weights."""
    config = PruneConfig(
        model="digits-mlp", method="structured", num_samples=50, sparsity=0.5, damping=1e-2, device="cpu"
    )
    shared, turns = workspace().problem(config).model, workspace().cache.computing
    real, mine = copy.deepcopy, []

    def watched(thing, *arguments):
        if thing is shared:
            mine.append(turns.mine)
        return real(thing, *arguments)

    monkeypatch.setattr(copy, "deepcopy", watched)
    if what == "files":
        for _, name, _, make, _ in files(config, workspace(), ()):
            if name != "onnx":  # may not be installed; it is made as the others are
                assert make()
    else:
        query = {"method": "structured", "samples": "50", "sparsity": "0.5", "damping": "1e-2", "device": "cpu"}
        assert not opened(model="digits-mlp", **query).exception
    assert mine
    assert all(mine)
