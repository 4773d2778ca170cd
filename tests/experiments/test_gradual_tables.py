"""Gradual runs as tables, the one-step rival, and the kept network, which must answer as the run said."""

import numpy as np
import pytest

from woodfisher_core.evaluation import lead_by_luck
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.experiments.gradual_record import epoch_values, network_file
from woodfisher_core.experiments.gradual_tables import (
    epoch_points,
    final_evaluation,
    gap,
    in_one_step,
    level_table,
    other_rise,
    step_table,
)
from woodfisher_core.schedules import GradualSchedule

CONFIG = GradualConfig(
    prune=PruneConfig(model="digits-mlp", num_samples=20, damping=1e-3, device="cpu"),
    schedule=GradualSchedule(final=0.8, initial=0.2, start_epoch=1, end_epoch=2),
    epochs=2,
)


def test_steps_add_up():
    """What goes, step by step, of all and of what is left, ends where the schedule ends; the line takes equal parts."""
    table = step_table(GradualSchedule(final=0.9, initial=0.1, start_epoch=2, end_epoch=6))
    assert table["epoch"].tolist() == [2, 3, 4, 5, 6]
    left = 1.0
    for step in table.itertuples():
        left *= 1.0 - step.of_left
        assert left == pytest.approx(1.0 - step.level)
    assert table["of_all"].sum() == pytest.approx(0.9)
    assert table["other"].tolist() == pytest.approx([0.1, 0.2, 0.2, 0.2, 0.2])


def test_the_other_rise_is_there_and_back():
    schedule = CONFIG.schedule
    assert other_rise(schedule).degree == 1.0
    assert other_rise(other_rise(schedule)) == schedule


def test_in_one_step():
    """All of it before the first epoch that prunes, everything else alike; a schedule of one step has no such rival."""
    later = CONFIG.replace(schedule=GradualSchedule(final=0.8, initial=0.0, start_epoch=1, end_epoch=5), epochs=6)
    one = in_one_step(later)
    assert one.schedule.levels == {2: 0.8}  # a level of 0 is no step
    assert (one.epochs, one.tuning, one.prune) == (later.epochs, later.tuning, later.prune)
    assert in_one_step(one) is None
    assert level_table(one.schedule).to_dict("records") == [{"epoch": 2, "level": 0.8}]


@pytest.fixture(scope="module")
def ran() -> tuple[Workspace, GradualConfig, object]:
    space = Workspace()
    config, result = run_gradual(CONFIG, space=space)
    return space, config, result


def test_points_are_the_records(ran):
    space, config, result = ran
    dense = space.problem(config.prune).dense
    table = epoch_points("it", config, dense, [epoch_values(record) for record in result.records])
    assert table["time"].tolist() == [0, 0, 1, 1, 2]
    assert table["moment"].tolist() == ["dense", "pruned", "trained", "pruned", "trained"]
    first, second = result.records
    scores = [dense, first.pruned, first.after, second.pruned, second.after]
    assert table["accuracy"].tolist() == [score.accuracy for score in scores]
    assert table["loss"].tolist() == [score.loss for score in scores]
    assert table["training_loss"].dropna().tolist() == [first.training_loss, second.training_loss]
    assert table["sparsity"].tolist() == [0.0, *[first.sparsity] * 2, *[second.sparsity] * 2]
    assert not table["one_step"].any()


def test_a_loss_that_is_not_finite_is_a_gap(ran):
    _, config, result = ran
    epoch = epoch_values(result.records[0]) | {"pruned": {"accuracy": 10.0, "loss": None}}
    table = epoch_points("it", config, result.dense, [epoch])
    assert np.isnan(table["loss"][1])
    assert table["accuracy"][1] == 10.0


def test_the_kept_network_answers_as_the_run_said(ran):
    """Against an evaluation of the network itself, outside the workspace."""
    space, config, result = ran
    found = final_evaluation(space, config, lambda: network_file(result))
    assert found.accuracy == result.last.after.accuracy
    assert found.loss == pytest.approx(result.last.after.loss, rel=1e-6)
    problem = space.problem(config.prune)
    network = result.applied_to(problem.model).eval()
    logits = network(problem.test.inputs).detach()
    assert found.predictions.tolist() == logits.argmax(1).tolist()
    # Counted by hand: images on which only one of the two is right.
    dense = problem.dense
    own, other = found.predictions == found.targets, dense.predictions == dense.targets
    difference, noise = gap(found, dense)
    assert difference == pytest.approx(found.accuracy - dense.accuracy)
    assert noise == pytest.approx(100 * lead_by_luck(int((own != other).sum())) / len(own))
