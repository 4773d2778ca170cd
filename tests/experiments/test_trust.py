"""Predictions and measurements of the Trust page against a dense float64 oracle, one weight and one point at a time."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace, held_out, removals, trust, workspace
from woodfisher_core.experiments.agreement import agreement, trusted_until
from woodfisher_core.fisher.blocks import Blocks, Run
from woodfisher_core.options import Update

COUNT = 8


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def setting(**changes) -> PruneConfig:
    values = {
        "model": "digits-mlp",
        "num_samples": 60,
        "held_out": 50,
        "sparsity": 0.6,
        "damping": 1e-2,
        "device": "cpu",
    }
    return PruneConfig(**{**values, **changes})


class Oracle:
    """The network in float64, its gradients one sample at a time, its Fisher and inverse as dense matrices."""

    def __init__(self, space: Workspace, config: PruneConfig):
        self.problem = space.problem(config)
        self.state = {name: tensor.double() for name, tensor in self.problem.model.state_dict().items()}
        self.weights = self.problem.weights.double()
        used, held_out = space.samples(config)
        self.used, self.held_out = (self.problem.train_samples(picked) for picked in (used, held_out))

    def loss(self, flat, samples):
        weights = {**self.state, **self.problem.parameters.unflatten(flat)}
        return cross_entropy(functional_call(self.problem.model, weights, (samples.inputs.double(),)), samples.targets)

    def change(self, flat, samples) -> float:
        return float(self.loss(flat, samples) - self.loss(self.weights, samples))

    def rows(self, samples):
        found = []
        for index in range(len(samples)):
            flat = self.weights.clone().requires_grad_()
            one = type(samples)(samples.inputs[index : index + 1], samples.targets[index : index + 1])
            found.append(torch.autograd.grad(self.loss(flat, one), flat)[0])
        return torch.stack(found)

    def block(self, config: PruneConfig, matrix):
        """``matrix`` with everything between layers at zero, where the blocks are layers."""
        if config.block_size == "network":
            return matrix
        out = torch.zeros_like(matrix)
        for layer in self.problem.parameters.layers:
            out[layer.slice, layer.slice] = matrix[layer.slice, layer.slice]
        return out


@pytest.mark.parametrize("block", ["layer", "network"])
def test_single_removals(space, block):
    """Both kinds of removal: terms from held-out gradients, the statistic from the Fisher's own, the change measured."""
    config = setting(block_size=block)
    table, oracle = removals.single_removals(space, config, COUNT), Oracle(space, config)
    own, other = oracle.rows(oracle.used), oracle.rows(oracle.held_out)
    inverse = torch.linalg.inv(oracle.block(config, own.T @ own / len(own)) + config.damping * torch.eye(own.shape[1]))
    curvature = oracle.block(config, other.T @ other / len(other))
    mean = float((own**2).mean())
    assert len(table) == 2 * COUNT
    for row in table.itertuples():
        q, w = row.position, float(oracle.weights[row.position])
        step = torch.zeros_like(oracle.weights)
        step[q] = -w
        if row.removal == removals.COMPENSATED:
            step = -w / inverse[q, q] * inverse[:, q]
        point = oracle.weights + step
        assert row.weight == w
        assert row.first_order == pytest.approx(float(other.mean(0) @ step), rel=1e-4, abs=1e-8)
        assert row.second_order == pytest.approx(0.5 * float(step @ curvature @ step), rel=1e-4, abs=1e-10)
        assert row.predicted == pytest.approx(row.first_order + row.second_order)
        assert row.statistic == pytest.approx(0.5 * w**2 / float(inverse[q, q]), rel=1e-4)
        assert row.magnitude == pytest.approx(0.5 * w**2 * mean, rel=1e-4)
        assert row.measured == pytest.approx(oracle.change(point, oracle.held_out), rel=1e-3, abs=1e-8)


def test_gradients_too_large_to_keep(space, monkeypatch):
    """Made in passing for every pass over them: the numbers are those from gradients that are kept."""
    kept = removals.single_removals(space, setting(), COUNT), trust.growth(space, setting(), [Update.NONE], (0.5, 0.6))
    monkeypatch.setattr(workspace, "HELD_OUT_KEPT_BYTES", 0)
    monkeypatch.setattr(
        held_out, "STEP_BYTES", 8 * space.problem(setting()).parameters.num_prunable
    )  # one step at a time
    other = Workspace()
    passing = (
        removals.single_removals(other, setting(), COUNT),
        trust.growth(other, setting(), [Update.NONE], (0.5, 0.6)),
    )
    for found, expected in zip(passing, kept, strict=True):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-6)
    with pytest.raises(InputError, match="at least one gradient row"):
        held_out.terms_of_steps(iter(()), torch.zeros(1, 7), Blocks((Run(0, 1, 7),)))


def test_weights_are_drawn_over_the_whole_order():
    """One from each eighth of the order, the same for the same seed, others for another; and few others for a like order."""
    values = torch.from_numpy(np.random.RandomState(0).permutation(80)).double()
    drawn = removals.stratified(values, 8, 1)
    assert [int(values[q]) // 10 for q in drawn] == list(range(8))
    assert torch.equal(drawn, removals.stratified(values, 8, 1))
    assert not torch.equal(drawn, removals.stratified(values, 8, 2))
    assert sorted(removals.stratified(values, 500, 0).tolist()) == list(range(80))
    moved = values + 10 * torch.from_numpy(np.random.RandomState(1).standard_normal(80))
    again = removals.stratified(moved, 8, 1)
    assert [int((moved < moved[q]).sum()) // 10 for q in again] == list(range(8))
    assert len(set(again.tolist()) & set(drawn.tolist())) >= 4


def test_each_part_is_drawn_from_evenly():
    """Over seeds every place of a part comes as often as any other."""
    counts = np.zeros(12)
    for seed in range(1200):
        counts[removals.stratified(torch.arange(12.0), 3, seed)] += 1
    assert counts.sum() == 3 * 1200
    assert abs(counts - 300).max() <= 5 * np.sqrt(1200 * 0.25 * 0.75)


SETTINGS = (
    {}, {"held_out": 30}, {"num_samples": 40}, {"seed": 1}, {"labels": "sampled"}, {"labels": "sampled", "num_samples": 40},
    {"damping": 1e-1}, {"exclude": ("fc3",)}, {"block_size": 32}, {"mini_batch": 2}, {"images": 80},
)  # fmt: skip


def test_nothing_is_taken_for_something_else(space):
    """One workspace asked for many settings, there and back, says what a fresh one says of each."""

    def said(space: Workspace, changes: dict) -> list[pd.DataFrame]:
        config = setting(**changes)
        updates, sparsities = [Update.INDEPENDENT], (0.5, 0.8)
        return [
            removals.single_removals(space, config, COUNT),
            trust.step_path(space, config),
            trust.growth(space, config, updates, sparsities),
        ]

    shared, fresh = Workspace(), {}
    for changes in (*SETTINGS, *reversed(SETTINGS)):
        key = str(changes)
        if key not in fresh:
            fresh[key] = said(Workspace(), changes)
        for found, wanted in zip(said(shared, changes), fresh[key], strict=True):
            pd.testing.assert_frame_equal(found, wanted, rtol=1e-9, atol=1e-12)


def test_other_fisher_samples_leave_magnitude_known():
    """What is measured on held-out images alone is not charged again for another N; for other images it is."""
    space = Workspace()
    many, few = setting(), setting(num_samples=40)

    def measure(config: PruneConfig) -> int:
        removals.single_removals(space, config, COUNT), trust.step_path(space, config)
        trust.growth(space, config, [])
        return trust.networks_to_run(space, config, COUNT, [])

    assert measure(many) == 0
    path, single = len(trust.PATH), (2 * COUNT + 1) * 50
    assert trust.networks_to_run(space, few, COUNT, []) == single + path * (50 + 40) + path * 40
    assert trust.networks_to_run(space, setting(held_out=49), COUNT, []) > (2 * COUNT + 1) * 49 + 2 * path * 49


def test_enough_losses_are_kept(monkeypatch):
    """Fewer weights asked for throw nothing away; beyond the bound the oldest go."""
    space = Workspace()
    kept = lambda: next(  # noqa: E731
        value for key, (value, _) in space.results._entries.items() if key[0] == "losses without one weight"
    )
    removals.single_removals(space, setting(), 4 * COUNT)
    many = set(kept())
    removals.single_removals(space, setting(damping=1e-1), COUNT)
    assert many < set(kept()) or many == set(kept())
    monkeypatch.setattr(removals, "KEPT_LOSSES", COUNT)
    found = removals.single_removals(space, setting(damping=1.0), COUNT)
    assert set(kept()) == set(found["position"])


def test_what_was_measured_is_not_measured_again(space, monkeypatch):
    """Another damping asks for the weights alone that have not been measured yet, and finds what it would find by itself."""
    sent = []
    real = removals.losses

    def counted(space, config, indices, points, told=None):
        points = list(points)
        sent.append(len(points))
        return real(space, config, indices, points, told)

    own = Workspace()
    removals.single_removals(own, setting(), COUNT)
    monkeypatch.setattr(removals, "losses", counted)
    found = removals.single_removals(own, setting(damping=1e-1), COUNT)
    assert 1 + COUNT <= sum(sent) < 1 + 2 * COUNT
    pd.testing.assert_frame_equal(found, removals.single_removals(Workspace(), setting(damping=1e-1), COUNT))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_terms_of_many_steps(size, monkeypatch):
    """Whatever the blocks and however little fits at a time, the terms are those of the dense matrix of blocks."""
    generator = torch.Generator().manual_seed(size)
    rows, steps = (torch.randn(n, 7, dtype=torch.float64, generator=generator) for n in (9, 5))
    full, rest = divmod(7, size)
    blocks = Blocks((Run(0, full, size), *([Run(full * size, 1, rest)] if rest else [])))
    dense = rows.T @ rows / 9
    where = torch.arange(7) // size
    dense[where[:, None] != where] = 0.0
    monkeypatch.setattr(held_out, "STEP_BYTES", 8 * 7 * 5 * 2)
    first, second = held_out.terms_of_steps(rows.split(4), steps, blocks)
    torch.testing.assert_close(first, steps @ rows.mean(0))
    torch.testing.assert_close(second, torch.tensor([0.5 * float(s @ dense @ s) for s in steps], dtype=torch.float64))


def test_path(space):
    """Along the step: zero at its start, the pruned network at t = 1, parabolas of both curvatures, on both sets of samples."""
    config = setting(block_size="network", update=Update.JOINT)
    table, oracle = trust.step_path(space, config), Oracle(space, config)
    step = space.outcome(config).weights.double() - oracle.weights
    rival = space.outcome(config.replace(method="magnitude", update=Update.NONE)).weights.double() - oracle.weights
    for samples, images in ((trust.HELD_OUT, oracle.held_out), (trust.FISHER_SAMPLES, oracle.used)):
        part, rows = table[table["samples"] == samples].set_index("t"), oracle.rows(images)
        first, second = float(rows.mean(0) @ step), 0.5 * float((rows @ step).square().mean())
        for t in (0.0, 0.3, 1.0, 1.2):
            assert part.loc[t, "predicted"] == pytest.approx(t * first + t**2 * second, rel=1e-4)
            assert part.loc[t, "measured"] == pytest.approx(oracle.change(oracle.weights + t * step, images), rel=1e-5)
            assert part.loc[t, "magnitude"] == pytest.approx(
                oracle.change(oracle.weights + t * rival, images), rel=1e-5
            )
    along = lambda t: oracle.loss(oracle.weights + t * step, oracle.held_out)  # noqa: E731
    bend = float(hessian(along, torch.zeros((), dtype=torch.float64)))
    part = table[table["samples"] == trust.HELD_OUT].set_index("t")
    slope = float(oracle.rows(oracle.held_out).mean(0) @ step)
    assert part.loc[1.0, "hessian"] == pytest.approx(slope + 0.5 * bend, rel=1e-4)
    assert table[table["samples"] == trust.FISHER_SAMPLES]["hessian"].isna().all()


def test_growth_is_the_loss_change_of_each_run(space):
    """Every point agrees with the run of that sparsity and update on its own."""
    config = setting()
    table = trust.growth(space, config, sparsities=(0.3, 0.8))
    assert table.groupby(["method", "update"], sort=False).ngroups == 4
    for row, sparsity in zip(table.itertuples(), 4 * (0.3, 0.8), strict=True):
        one = config.replace(method=row.method, update=row.update, sparsity=sparsity)
        predicted, measured = space.held_out_change(one)
        assert row.measured == pytest.approx(measured, abs=2e-6)
        if row.method == "woodfisher":
            assert row.first_order == pytest.approx(predicted.first_order, rel=1e-5, abs=1e-9)
            assert row.second_order == pytest.approx(predicted.second_order, rel=1e-5)


def test_what_is_kept_is_found_again():
    """Nothing is left to measure after the first time; another sparsity measures its paths alone, another damping, as far as
    can be told before, everything but magnitude's."""
    space, config = Workspace(), setting(num_samples=40)
    used, held_out = (len(some) for some in space.samples(config))
    path = 2 * len(trust.PATH) * (used + held_out)
    everything = (2 * COUNT + 1) * held_out + path + 4 * (len(trust.SPARSITIES) + 1) * held_out
    assert trust.networks_to_run(space, config, COUNT) == everything
    removals.single_removals(space, config, COUNT), trust.step_path(space, config), trust.growth(space, config)
    assert trust.networks_to_run(space, config, COUNT) == 0
    assert trust.networks_to_run(space, config.replace(sparsity=0.9), COUNT) == path
    # Magnitude's own path and line do not depend on the damping.
    known = path // 2 + (len(trust.SPARSITIES) + 1) * held_out
    assert trust.networks_to_run(space, config.replace(damping=1.0), COUNT) == everything - known


def test_without_held_out_samples_the_knob_is_named(space):
    with pytest.raises(InputError, match="Lower the Fisher samples N"):
        trust.step_path(space, setting(held_out=0))


def test_one_step_speaks_of_woodfisher_alone():
    asked = setting(method="magnitude", stages=4, num_samples=20)
    config = held_out.one_step(asked)
    assert (config.method, config.stages, config.batchnorm_images) == ("woodfisher", 1, 0)
    assert held_out.one_step(config) == config
    assert held_out.one_step(setting(update=Update.INDEPENDENT, update_scale=0.5)).update_scale == 0.5


def test_agreement_in_rank_and_size():
    found = agreement([1.0, 2.0, 3.0, 4.0, 0.0], [1.5, 5.0, 12.0, -1.0, 0.0])
    assert found.ratio == 2.5
    assert (found.within, found.wrong_sign) == (0.25, 0.25)
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0, 0.0], "b": [1.5, 5.0, 12.0, -1.0, 0.0]})
    assert found.rank == pytest.approx(frame.corr(method="spearman").iloc[0, 1])
    nothing = agreement([0.0, 0.0], [0.0, 0.0])
    assert np.isnan(nothing.rank)
    assert np.isnan(nothing.ratio)
    assert (nothing.within, nothing.wrong_sign) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("predicted", "measured", "expected"),
    [
        ([1.0, 1.0, 1.0], [1.5, 1.9, 2.1], (0.2, 0.3)),
        ([1.0, 1.0, 1.0], [1.5, 0.4, 1.0], (0.1, 0.2)),
        ([1e-5, 1.0, 1.0], [1e-4, 1.0, 1.0], (0.3, None)),  # too small to judge by
        ([1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], (None, 0.1)),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], (None, None)),
    ],
)
def test_trusted_until(predicted, measured, expected):
    assert trusted_until([0.1, 0.2, 0.3], predicted, measured) == expected
