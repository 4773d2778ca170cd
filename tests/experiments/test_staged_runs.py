"""Staged runs of the workspace: the runs by hand they stand for, the samples each stage sees, and what they share."""

import itertools

import numpy as np
import pytest
import torch
from oracle import norm_error

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.planning import Storage
from woodfisher_core.pruning import PruneResult, prune
from woodfisher_core.sampling import STAGE_STREAM

BASE = PruneConfig(model="digits-mlp", num_samples=60, held_out=50, sparsity=0.8, stages=3, device="cpu")
LEVELS = (0.8 * 19 / 27, 0.8 * 26 / 27, 0.8)
TOTAL = 1297


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def order_of(config: PruneConfig, stage: int) -> np.ndarray:
    """All indices in the order of a stage: the seed's own, later another permutation of as many as exist."""
    first = np.random.RandomState(config.seed).permutation(TOTAL)[: config.images]
    if stage == 0 or not config.fresh_samples:
        return first
    return first[np.random.RandomState(config.seed + stage * STAGE_STREAM).permutation(len(first))]


def by_hand(space: Workspace, config: PruneConfig, levels=LEVELS, **options) -> list[PruneResult]:
    """One run of the Python interface after the other, each on what the last one left."""
    problem, keep, results = space.problem(config), None, []
    model = problem.model
    for stage, level in enumerate(levels):
        samples = problem.train_samples(order_of(config, stage)[: config.num_samples * config.mini_batch])
        asked = {
            "method": config.method,
            "update": config.update,
            "damping": config.damping,
            "scope": config.scope,
            "block_size": config.block_size,
            "mini_batch": config.mini_batch,
            "labels": config.labels,
            "seed": config.seed,
        }
        result = prune(
            model,
            samples.batches(17),
            num_samples=config.num_samples,
            sparsity=level,
            keep=keep,
            device="cpu",
            **asked,
            **options,
        )
        model, keep = result.applied_to(model), result.mask.keep
        results.append(result)
    return results


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"update": "joint"},
        {"method": "woodtaylor", "damping": 0.1, "mini_batch": 2},
        {"method": "magnitude", "update": "joint", "seed": 3},
        {"method": "taylor", "scope": "layer", "labels": "sampled"},
        {"fresh_samples": False},
        {"images": 90},
    ],
    ids=str,
)
def test_a_staged_run_is_runs_one_after_the_other(space, change):
    """The last of three runs by hand, each from the samples of its own stage."""
    config = BASE.replace(**({"update": None} if "method" in change else {}) | change)
    found, last = space.outcome(config), by_hand(space, config)[-1]
    assert torch.equal(found.mask.keep, last.mask.keep)
    assert norm_error(found.weights, last.weights) <= 1e-5
    assert not found.weights[~found.mask.keep].any()


@pytest.mark.parametrize("method", ["woodfisher", "magnitude", "taylor"])
def test_one_stage_is_the_plain_run(space, method):
    """A single stage takes no notice of how stages would go, and equals the Python interface on the same samples."""
    plain = BASE.replace(stages=1, method=method, update=None)
    found = space.outcome(plain)
    assert space.outcome(plain.replace(stage_shape="linear", fresh_samples=False)) is found
    (last,) = by_hand(space, plain, (0.8,))
    assert torch.equal(found.mask.keep, last.mask.keep)
    assert norm_error(found.weights, last.weights) <= 1e-6
    assert found.mask.kept == space.outcome(BASE.replace(method=method, update=None)).mask.kept


def test_reproducible_whatever_was_asked_before(space):
    """Bitwise the same from a new workspace, and apart from runs with other stages, shapes, samples and seeds."""
    found, fresh = space.outcome(BASE), Workspace().outcome(BASE)
    assert torch.equal(found.weights, fresh.weights)
    changes = (
        {"stages": 2},
        {"stage_shape": "linear"},
        {"fresh_samples": False},
        {"seed": 1},
        {"images": 100},
        {"stages": 1},
    )
    others = [space.outcome(BASE.replace(**change)).weights for change in changes]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations([found.weights, *others], 2))
    assert space.outcome(BASE) is found


@pytest.mark.parametrize("storage", [Storage.SPILLED, Storage.RECOMPUTED], ids=str)
def test_every_stage_can_be_streamed(space, storage, tmp_path):
    """Gradients that do not stay in memory give the same staged run."""
    streamed = Workspace(storage=storage, scratch=tmp_path).outcome(BASE)
    assert torch.equal(streamed.mask.keep, space.outcome(BASE).mask.keep)
    assert norm_error(streamed.weights, space.outcome(BASE).weights) <= 1e-5


def test_a_curve_has_stages_of_its_own_at_every_sparsity(space):
    """Each point is the staged run to that sparsity."""
    levels = (0.3, 0.8)
    for point, sparsity in zip(space.curve(BASE, levels), levels, strict=True):
        config = BASE.replace(sparsity=sparsity)
        assert point.kept == space.outcome(config).mask.kept
        assert point.accuracy == space.evaluation(config).accuracy


def test_progress_and_report(space):
    """Stages are told one by one; a report has measured changes, and no prediction from a model that was made anew."""
    told: list[tuple] = []
    report = Workspace().report(BASE, lambda *news: told.append(news))
    assert [news for news in told if news[0] == "stages"] == [("stages", stage, 3) for stage in (1, 2, 3)]
    change = report.loss_change
    assert change.predicted_fisher_samples is change.predicted_held_out is None
    assert change.measured_held_out == pytest.approx(space.loss_change(BASE).measured_held_out)


def test_held_out_samples_are_seen_by_no_stage(space):
    """However many are asked for: none is among the samples of any stage, nor among BatchNorm's."""
    for change in ({}, {"fresh_samples": False}, {"images": 300}, {"stages": 1}, {"batchnorm_images": 400}):
        config = BASE.replace(held_out=TOTAL, **change)
        used, held_out = space.samples(config)
        seen = set(order_of(config, 0)[:60].tolist())
        assert set(used.tolist()) == seen
        for stage in range(config.stages):
            seen |= set(order_of(config, stage)[:60].tolist())
        seen |= set(order_of(config, config.stages - 1)[: config.batchnorm_images].tolist())
        assert not seen & set(held_out.tolist())
        assert len(seen) + len(held_out) == TOTAL
