"""Losses at many weight vectors in one pass are those of one network after the other."""

import numpy as np
import pytest
import torch

from woodfisher_core.experiments import PruneConfig, Workspace, exact_losses, points


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("together", [1, 3, 100])
def test_many_points(model, together, monkeypatch):
    """However many fit into one pass; and it is told how many are done."""
    problem = Workspace().problem(PruneConfig(model=model, num_samples=10))
    samples = problem.train_samples(np.arange(20))
    monkeypatch.setattr(points, "points_together", lambda *_: together)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(7, len(problem.weights), generator=generator, dtype=torch.float64)
    places, told = problem.weights.double() + 0.01 * noise, []
    found = exact_losses.mean_losses(problem, samples, iter(places), told.append)
    alone = exact_losses.exact_losses(problem, samples)
    torch.testing.assert_close(found, torch.stack([alone(point).mean() for point in places]), rtol=1e-12, atol=0)
    assert told[-1] == 7
    assert len(told) == (7 if model == "digits-cnn" else -(-7 // together))


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
def test_many_evaluations(model):
    """Those of one network after the other."""
    problem = Workspace().problem(PruneConfig(model=model, num_samples=10))
    generator = torch.Generator().manual_seed(0)
    places = [
        problem.weights * (torch.rand(len(problem.weights), generator=generator) > gone) for gone in (0, 0.5, 0.9)
    ]
    for point, found in zip(places, points.evaluations(problem, problem.test, iter(places)), strict=True):
        alone = problem.evaluate(point, problem.test)
        assert torch.equal(found.predictions, alone.predictions)
        assert torch.equal(found.targets, alone.targets)
        assert (found.accuracy, found.loss) == (alone.accuracy, pytest.approx(alone.loss, rel=1e-5))
    losses = exact_losses.exact_losses(problem, problem.test)
    together = exact_losses.sample_losses(problem, problem.test, places)
    torch.testing.assert_close(together, torch.stack([losses(point) for point in places]), rtol=1e-9, atol=1e-12)
