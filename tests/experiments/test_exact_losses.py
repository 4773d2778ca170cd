"""Losses at many weight vectors in one pass are those of one network after the other."""

import numpy as np
import pytest
import torch

from woodfisher_core.experiments import PruneConfig, Workspace, exact_losses


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("together", [1, 3, 100])
def test_many_points(model, together, monkeypatch):
    """However many fit into one pass; and it is told how many are done."""
    problem = Workspace().problem(PruneConfig(model=model, num_samples=10))
    samples = problem.train_samples(np.arange(20))
    monkeypatch.setattr(exact_losses, "points_together", lambda *_: together)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(7, len(problem.weights), generator=generator, dtype=torch.float64)
    points, told = problem.weights.double() + 0.01 * noise, []
    found = exact_losses.mean_losses(problem, samples, iter(points), told.append)
    alone = exact_losses.exact_losses(problem, samples)
    torch.testing.assert_close(found, torch.stack([alone(point).mean() for point in points]), rtol=1e-12, atol=0)
    assert told[-1] == 7
    assert len(told) == (7 if model == "digits-cnn" else -(-7 // together))
