"""The pages share one network: whoever runs it does so in his turn, for its tensors are exchanged while it runs."""

import pytest
import torch.nn.utils.stateless as stateless

from app.shared import workspace

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
