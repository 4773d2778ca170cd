"""One removed weight, a pair of them, and all together, against dense float64 matrices."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from oracle import dense_fisher, independent_step, kkt_step
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.compensation import Which, choose, removal, weight_name
from woodfisher_core.experiments.pair_surface import extent, has_surface, pair_of, surface
from woodfisher_core.experiments.two_weights import TwoWeights
from woodfisher_core.experiments.update_effects import (
    SCALED,
    agreement,
    best_scale,
    effects_now,
    has_effects,
    layer_moves,
    survivor_moves,
    turning_point,
    update_effects,
)
from woodfisher_core.timing import Stopwatch

CONFIG = PruneConfig(
    model="digits-mlp", num_samples=100, damping=1e-3, sparsity=0.8, solver="spectral", held_out=60, device="cpu"
)


@pytest.fixture(scope="module")
def space():
    return Workspace()


@pytest.fixture(scope="module")
def dense(space):
    """(F, F⁻¹, w, the kept set), all (d, …) float64 but the last."""
    fisher = dense_fisher(space.rows(CONFIG, Stopwatch()), space.blocks(CONFIG), CONFIG.damping)
    return fisher, torch.linalg.inv(fisher), space.problem(CONFIG).weights.double(), space.outcome(CONFIG).mask.keep


def losses(space, weights, indices):
    """Each sample's loss from a float64 network, sample by sample in plain torch."""
    problem = space.problem(CONFIG)
    samples = problem.train_samples(indices)
    state = {name: tensor.double() for name, tensor in problem.model.state_dict().items()}
    outputs = functional_call(
        problem.model, {**state, **problem.parameters.unflatten(weights)}, (samples.inputs.double(),)
    )
    return cross_entropy(outputs, samples.targets, reduction="none").detach()


@pytest.fixture(scope="module")
def helped(space):
    return removal(space, CONFIG, choose(space, CONFIG, Which.HELPED))


def test_choices_are_the_extremes(space, dense):
    fisher, inverse, weights, keep = dense
    gone = (~keep).nonzero().squeeze(1)
    saved = weights**2 * (fisher.diagonal() - 1 / inverse.diagonal())
    obs = weights**2 / inverse.diagonal()
    assert choose(space, CONFIG, Which.HELPED) == gone[saved[gone].argmax()]
    assert choose(space, CONFIG, Which.FIRST) == gone[obs[gone].argmin()]
    assert choose(space, CONFIG, Which.LAST) == gone[obs[gone].argmax()]
    assert choose(space, CONFIG, Which.LARGEST) == gone[weights.abs()[gone].argmax()]
    assert choose(space, CONFIG, Which.NUMBER, 7) == 7
    assert choose(space, CONFIG.replace(sparsity=0.0), Which.LARGEST) == int(weights.abs().argmax())
    with pytest.raises(InputError, match=r"from 0 to 2,719, got 2,720"):
        choose(space, CONFIG, Which.NUMBER, 2720)


def test_moves_are_the_column_of_the_inverse(space, dense, helped):
    """δ_i = −w_q [F⁻¹]_iq/[F⁻¹]_qq; the twelve largest, and the correlation of the partner."""
    fisher, inverse, weights, keep = dense
    q = helped.index
    step = -weights[q] * inverse[:, q] / inverse[q, q]
    correlation = inverse[:, q] / (inverse.diagonal() * inverse[q, q]).sqrt()
    step[q] = correlation[q] = 0.0
    largest = step.abs().argsort(descending=True)[:12]
    assert helped.survivors["move"].to_numpy() == pytest.approx(step[largest].numpy(), rel=1e-5)
    assert helped.survivors["correlation"].to_numpy() == pytest.approx(correlation[largest].numpy(), rel=1e-5)
    assert helped.survivors["weight"].tolist() == [
        weight_name(space.problem(CONFIG).parameters, int(i)) for i in largest
    ]
    assert helped.survivors["kept"].tolist() == keep[largest].tolist()
    assert helped.partner == int((correlation.abs() * keep).argmax())
    assert helped.lost_share == pytest.approx(float(step[~keep].square().sum() / step.square().sum()), rel=1e-5)
    assert helped.obd == pytest.approx(0.5 * float(weights[q]) ** 2 * float(fisher[q, q]), rel=1e-6)
    assert helped.obs == pytest.approx(0.5 * float(weights[q]) ** 2 / float(inverse[q, q]), rel=1e-5)


def test_losses_of_a_removal_are_measured(space, dense, helped):
    _, inverse, weights, _ = dense
    q = helped.index
    alone, moved = weights.clone(), weights - weights[q] * inverse[:, q] / inverse[q, q]
    alone[q] = moved[q] = 0.0
    table = helped.changes.set_index(["term", "update"])
    for name, indices in zip(("Fisher samples", "held-out samples"), space.samples(CONFIG), strict=True):
        before, without, with_it = (losses(space, w, indices) for w in (weights, alone, moved))
        for update, after in (("without", without), ("with", with_it)):
            row = table.loc[(f"measured on|{name}", update)]
            assert row["nats"] == pytest.approx(float((after - before).mean()), rel=1e-4, abs=1e-9)
            assert row["error"] == pytest.approx(float((after - before).std()) / len(after) ** 0.5, rel=1e-4, abs=1e-9)
        assert helped.saved[name][0] == pytest.approx(float((without - with_it).mean()), rel=1e-4)


def test_a_diagonal_fisher_moves_nobody(space):
    found = removal(space, CONFIG.replace(block_size=1), 100)
    assert found.partner is None
    assert found.survivors.empty
    assert found.obd == pytest.approx(found.obs, rel=1e-6)


def test_a_pair_is_a_part_of_the_fisher(space, dense, helped):
    fisher, _, weights, _ = dense
    q, i = helped.index, helped.partner
    pair = pair_of(space, CONFIG, q, i)
    assert (pair.a, pair.b, pair.c) == pytest.approx(
        (float(fisher[q, q]), float(fisher[i, i]), float(fisher[q, i])), rel=1e-6
    )
    assert (pair.first, pair.second) == (float(weights[q]), float(weights[i]))


def test_the_surface_is_measured_point_by_point(space, dense, helped):
    q, i = helped.index, helped.partner
    assert not has_surface(space, CONFIG, q, i)
    found = surface(space, CONFIG, q, i)
    assert has_surface(space, CONFIG.replace(sparsity=0.5, update="joint"), q, i)
    weights, held_out = dense[2], space.samples(CONFIG)[1]
    before = losses(space, weights, held_out).mean()
    for row in found.grid.iloc[[0, 100, 220, 440]].itertuples():
        moved = weights.clone()
        moved[q], moved[i] = row.first, row.second
        assert row.nats == pytest.approx(float(losses(space, moved, held_out).mean() - before), rel=1e-5, abs=1e-9)
    (left, right), (low, high) = extent(pair_of(space, CONFIG, q, i))
    assert (found.grid["first"].min(), found.grid["second"].max()) == pytest.approx((left, high))
    assert left < 0.0 < right
    at = found.places.set_index("place")
    assert low < at.loc["obs", "second"] < high
    assert at.loc["trained", "measured"] == 0.0
    assert found.images == 60


def test_dampings_share_a_surface(helped):
    """A slightly smaller move leaves the window as it is, and with it the grid; what lies at the places is measured anew."""
    space, (q, i) = Workspace(), (helped.index, helped.partner)
    first = surface(space, CONFIG, q, i)
    other = CONFIG.replace(damping=1.01 * CONFIG.damping)
    assert not has_surface(space, other, q, i)
    assert extent(pair_of(space, other, q, i)) == extent(pair_of(space, CONFIG, q, i))
    assert has_surface(space, other, q, i)
    second = surface(space, other, q, i)
    assert second.grid is first.grid
    obs, moved = (found.places.set_index("place").loc["obs"] for found in (first, second))
    assert abs(obs["second"] - moved["second"]) > 0.0
    assert obs["measured"] != moved["measured"]


def test_the_window_holds_the_axis_of_removal():
    """However far the second weight moves, and where the first one is zero."""
    for correlation in np.linspace(-0.99, 0.99, 23):
        for curvature in (1e-3, 1.0, 30.0):
            pair = TwoWeights(0.4, -0.1, a=1.0, b=curvature, c=0.0).correlated(float(correlation))
            (left, right), (low, high) = extent(pair)
            to = pair.second + float(pair.removals()["move"].iloc[0])
            assert left < 0.0 < right
            assert low < to < high
            assert (left + right, low + high) == pytest.approx((2 * pair.first, 2 * pair.second))
            ratio = (high - low) / (right - left)  # 1, √2, 2, … and no more than the move asks for
            assert 2 * math.log2(ratio) == pytest.approx(round(2 * math.log2(ratio)), abs=1e-9)
            assert 1.0 - 1e-12 <= ratio <= max(1.0, 2**0.25 * abs(to - pair.second) / abs(pair.first)) + 1e-12
    (left, right), (low, high) = extent(TwoWeights(0.0, 0.3, a=1.0, b=1.0, c=0.5))
    assert left < 0.0 < right
    assert low < 0.3 < high


def test_moves_of_all_together(space, dense):
    """Independent and joint moves of the survivors are those of the dense formulas; so is the best length."""
    fisher, inverse, weights, keep = dense
    moves = survivor_moves(space, CONFIG)
    alone, joint = independent_step(inverse, weights, keep), kkt_step(fisher, space.blocks(CONFIG), weights, keep)
    assert moves["independent"].to_numpy() == pytest.approx(alone[keep].numpy(), abs=1e-6)
    assert moves["joint"].to_numpy() == pytest.approx(joint[keep].numpy(), abs=1e-6)
    assert len(moves) == int(keep.sum())
    u = torch.where(keep, alone, 0.0)
    removed = torch.where(keep, 0.0, -weights)
    costs = [0.5 * (removed + s * u) @ fisher @ (removed + s * u) for s in (0.0, 0.5, 1.0)]
    # Of a parabola through three points.
    second = 2.0 * (costs[2] - 2.0 * costs[1] + costs[0])
    first = 4.0 * costs[1] - 3.0 * costs[0] - costs[2]
    best = -first / (2.0 * second)
    assert best_scale(space, CONFIG) == pytest.approx(float(best), rel=1e-3)


def test_agreement_counts_directions():
    moves = pd.DataFrame({"value": 1.0, "independent": [2.0, 0.5, -1.0, 0.0], "joint": [1.0, 1.0, 1.0, 0.0]})
    found = agreement(moves)
    assert (found.over, found.under, found.opposite, found.count) == pytest.approx((1 / 3, 1 / 3, 1 / 3, 3))
    assert found.ratio == pytest.approx((5.25 / 3) ** 0.5)
    assert found.correlation == pytest.approx(1.5 / (5.25 * 3) ** 0.5)
    assert agreement(moves.assign(joint=0.0, independent=0.0)) is None


def test_effects_are_runs(space):
    """Each row is the accuracy of that very run, its gain paired with no update; a shortened update is a line of its own."""
    sparsities = (0.5, 0.8)
    assert not has_effects(space, CONFIG, sparsities)
    table = update_effects(space, CONFIG, sparsities)
    assert has_effects(space, CONFIG.replace(sparsity=0.3, update="joint"), sparsities)
    none = {s: space.evaluation(CONFIG.replace(update="none", sparsity=s)) for s in sparsities}
    for number, row in enumerate(table.itertuples()):
        sparsity = sparsities[number % 2]
        run = CONFIG.replace(update=row.update, sparsity=sparsity)
        assert row.accuracy == space.evaluation(run).accuracy
        assert row.gain == row.accuracy - none[sparsity].accuracy
        assert row.loss == pytest.approx(space.held_out_change(run)[1], abs=1e-5)
        keep, before, after = space.outcome(run).mask.keep, space.problem(run).weights, space.outcome(run).weights
        assert row.moved == pytest.approx(
            float((after - before)[keep].norm() / before[keep].norm()), rel=1e-5, abs=1e-9
        )
    now = effects_now(space, CONFIG)
    assert now["accuracy"].tolist() == table[np.isclose(table["sparsity"], 0.8, atol=1e-3)]["accuracy"].tolist()
    shortened = effects_now(space, CONFIG.replace(update="independent", update_scale=0.5))
    assert shortened["update"].tolist() == ["none", "independent", "joint", SCALED]
    assert shortened["moved"].iloc[3] == pytest.approx(0.5 * shortened["moved"].iloc[1], rel=1e-5)


def test_the_turning_point_is_beyond_the_noise(space):
    table = update_effects(space, CONFIG, (0.5, 0.8)).assign(
        gain=[0, 0, -3.0, -3.0, 0, 0], gain_error=[1, 1, 2.0, 1.0, 1, 1]
    )
    assert turning_point(table) == table["sparsity"].iloc[3]
    assert turning_point(table, "joint") is None


def test_layers_have_their_quantiles(space):
    moves = survivor_moves(space, CONFIG)
    table = layer_moves(moves).set_index(["layer", "update"])
    part = moves[moves["layer"] == "fc2"]
    relative = np.abs(part["joint"] / part["value"])
    row = table.loc[("fc2", "joint")]
    assert row[["low", "median", "high"]].tolist() == pytest.approx(np.percentile(relative, [10, 50, 90]).tolist())
    assert table.index.get_level_values(0).unique().tolist() == ["fc1", "fc2", "fc3"]
