"""Single weights against plain loops in float64, on a network small enough to count by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.weights import (
    MOST_PICKED,
    Numbers,
    Pick,
    contested,
    indexed,
    indices,
    inverse_diagonal,
    mask_difference,
    parse_positions,
    picked,
    thinned,
    weight_name,
    weight_table,
)
from woodfisher_core.masks import Mask
from woodfisher_core.methods import Outcome
from woodfisher_core.parameters import PrunableParameters


@pytest.fixture
def small():
    """(parameters, weights, outcome, rival mask) of a convolution and a Linear layer, 2·1·2·2 + 3·4 = 20 weights."""
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Linear(4, 3))
    parameters = PrunableParameters.from_model(network)
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(20, generator=generator)
    saliency = torch.rand(20, generator=generator, dtype=torch.float64) + 0.01
    keep = saliency > saliency.sort().values[7]
    after = torch.where(keep, weights + 0.1 * torch.randn(20, generator=generator), 0.0)
    rival = weights.abs() > weights.abs().sort().values[7]
    return parameters, weights, Outcome(Mask(keep, (float(saliency.sort().values[7]),), 0), after, saliency), rival


def test_the_table_holds_every_weight_as_it_was_and_is(small):
    parameters, weights, outcome, rival = small
    table = weight_table(parameters, weights, outcome, rival, outcome.saliency.reciprocal())
    assert list(table["position"]) == list(range(20))
    assert list(table["layer"]) == ["0"] * 8 + ["1"] * 12
    for row in table.itertuples():
        at = row.position
        assert row.before == float(weights[at])
        assert row.after == float(outcome.weights[at])
        assert row.change == row.after - row.before
        assert row.statistic == float(outcome.saliency[at])
        assert row.inverse == pytest.approx(1 / float(outcome.saliency[at]), rel=1e-12)
        assert row.kept == bool(outcome.mask.keep[at])
        assert row.rival == bool(rival[at])


def test_one_layer_is_that_part_of_all(small):
    parameters, weights, outcome, rival = small
    whole = weight_table(parameters, weights, outcome, rival)
    part = weight_table(parameters, weights, outcome, rival, layer="1")
    expected = whole[whole["layer"] == "1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.astype({"layer": str}), expected.astype({"layer": str}))


def test_contested_are_those_the_masks_treat_differently(small):
    parameters, weights, outcome, rival = small
    found = contested(weight_table(parameters, weights, outcome, rival))
    expected = [i for i in range(20) if bool(outcome.mask.keep[i]) != bool(rival[i])]
    assert list(found["position"]) == expected
    assert expected
    assert contested(weight_table(parameters, weights, outcome)).empty


@pytest.mark.parametrize("pick", list(Pick))
@pytest.mark.parametrize("count", [2, 50])
def test_every_rule_picks_what_it_says(small, pick, count):
    """Against a sort of plain tuples."""
    parameters, weights, outcome, rival = small
    line = outcome.mask.thresholds[0]
    table = weight_table(parameters, weights, outcome, rival)
    found = picked(table, pick, dict.fromkeys(parameters.modules, line), count)
    kept, w, after, rho = (
        outcome.mask.keep.tolist(),
        weights.tolist(),
        outcome.weights.tolist(),
        outcome.saliency.tolist(),
    )
    ranks = {
        Pick.SAVED: [(-rho[i], i) for i in range(20) if kept[i] and not rival[i]],
        Pick.GIVEN_UP: [(-abs(w[i]), i) for i in range(20) if not kept[i] and rival[i]],
        Pick.MOVED: [(-abs(after[i] - w[i]), i) for i in range(20) if kept[i]],
        Pick.NEAR: [(abs(math.log(rho[i] / line)), i) for i in range(20)],
    }
    expected = [i for _, i in sorted(ranks[pick])][:count]
    assert expected
    assert list(found["position"]) == expected


def test_rules_that_mean_nothing_pick_nothing(small):
    parameters, weights, outcome, _ = small
    table = weight_table(parameters, weights, outcome)
    no_line = dict.fromkeys(parameters.modules, -math.inf)
    assert picked(table, Pick.SAVED, no_line, 9).empty
    assert picked(table, Pick.GIVEN_UP, no_line, 9).empty
    assert picked(table, Pick.NEAR, no_line, 9).empty
    unmoved = weight_table(parameters, weights, Outcome(outcome.mask, weights * outcome.mask.keep, outcome.saliency))
    assert picked(unmoved, Pick.MOVED, no_line, 9).empty


def test_thinning_keeps_what_matters_and_samples_the_rest_evenly():
    """20,000 weights: all of the contested are drawn, the chosen too, and the rest has the same spread of statistics."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "position": np.arange(20_000),
            "before": generator.normal(size=20_000),
            "statistic": generator.exponential(size=20_000),
            "kept": generator.random(20_000) < 0.5,
        }
    )
    table["rival"] = table["kept"] ^ (table["position"] % 100 == 0)
    table.loc[7, "statistic"] = 0.0
    drawn = thinned(table, always=(7, 11, 13), most=1000)
    assert len(drawn) == 1000
    assert drawn["position"].is_monotonic_increasing
    assert {11, 13, *range(0, 20_000, 100)} <= set(drawn["position"])
    assert 7 not in set(drawn["position"])  # it has no logarithm
    rest = drawn[drawn["position"] % 100 != 0]
    assert rest["statistic"].median() == pytest.approx(table["statistic"].median(), rel=0.02)
    crowded = thinned(table.assign(rival=~table["kept"]), always=(11,), most=1000)
    assert len(crowded) == 1000
    assert 11 in set(crowded["position"])


def test_a_small_table_is_drawn_whole(small):
    parameters, weights, outcome, rival = small
    table = weight_table(parameters, weights, outcome, rival)
    assert thinned(table).equals(table)


def test_indices_are_those_of_the_tensor(small):
    """Each weight is found again in its layer's tensor under the indices it is given."""
    parameters, weights, outcome, rival = small
    tensors = parameters.unflatten(weights)
    for layer in parameters.layers:
        for position in range(layer.offset, layer.end):
            assert tensors[layer.name][indices(layer, position)] == weights[position]
            assert weight_name(parameters, position) == f"{layer.module}{list(indices(layer, position))}"
    table = indexed(weight_table(parameters, weights, outcome, rival), parameters)
    row = table[table["position"] == 8 + 2 * 4 + 1].iloc[0]
    assert (row["name"], row["out"], row["in"], row["kernel"]) == ("1[2, 1]", 2, 1, "")
    row = table[table["position"] == 6].iloc[0]
    assert (row["name"], row["out"], row["in"], row["kernel"]) == ("0[1, 0, 1, 0]", 1, 0, "1, 0")
    assert table["name"].is_unique
    linear = indexed(weight_table(parameters, weights, outcome, layer="1"), parameters)
    assert "kernel" not in linear


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2 3", (1, 2, 3)),
        ("3,3;1", (3, 1)),
        ("-4", ()),
        ("4.5", ()),
        ("20 19", (19,)),
        ("9" * 400, ()),
        ("٣ drop table", ()),
        ("²", ()),
        ("", ()),
    ],
)
def test_numbers_from_a_link_are_checked(text, expected):
    assert parse_positions(text, 20).positions == expected


def test_what_is_passed_over_is_known():
    """Each word under its reason; no minus is read as a separator."""
    found = parse_positions(" 99999, abc -3;7 7 20 " + "9" * 5000, 20)
    assert found.positions == (7,)
    assert found.words == ("abc", "-3")
    assert found.beyond == ("99999", "20", "9" * 5000)
    assert found.more == 0
    assert parse_positions("", 20) == Numbers(())


def test_no_more_numbers_than_rows():
    found = parse_positions(" ".join(map(str, range(1000))), 1000)
    assert found.positions == tuple(range(MOST_PICKED))
    assert found.more == 1000 - MOST_PICKED


def test_mask_difference_counts_by_layer(small):
    """Of two networks with one layer left alone in one of them, only layers both prune are counted."""
    parameters, _, outcome, rival = small
    keep = outcome.mask.keep
    only, other, shared = mask_difference(parameters, keep, parameters, rival)
    pairs = list(zip(keep.tolist(), rival.tolist(), strict=True))
    assert (only, other) == (pairs.count((True, False)), pairs.count((False, True)))
    assert shared == pairs.count((True, True)) / (20 - pairs.count((False, False)))
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Linear(4, 3))
    fewer = PrunableParameters.from_model(network, exclude=("0",))
    assert mask_difference(parameters, keep, fewer, keep[8:]) == (0, 0, 1.0)
    nothing = torch.zeros(20, dtype=torch.bool)
    assert math.isnan(mask_difference(parameters, nothing, parameters, nothing)[2])


def test_the_inverse_diagonal_is_the_one_behind_the_statistic():
    """½w²/[F⁻¹]_jj is WoodFisher's statistic, from a dense inverse of one block."""
    space = Workspace()
    config = PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=40, damping=1e-2, solver="spectral")
    found = inverse_diagonal(space, config)
    context = space.context(config)
    rows = context.fisher().rows.double()
    part = space.problem(config).parameters.layers[2].slice
    own = rows[:, part]
    exact = torch.linalg.inv(1e-2 * torch.eye(own.shape[1], dtype=torch.float64) + own.T @ own / 40).diagonal()
    torch.testing.assert_close(found[part], exact, rtol=1e-6, atol=0)
    assert inverse_diagonal(space, config.replace(method="magnitude", update=None)) is None
