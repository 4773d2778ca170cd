"""What runs are said to cost: nothing where all is kept, more where more is to be made."""

import pytest

from woodfisher_core.experiments import PruneConfig, Workspace, cost

POINT = PruneConfig(model="digits-mlp", num_samples=50, held_out=20, solver="spectral")


@pytest.fixture
def space():
    return Workspace()


def test_nothing_to_do_costs_nothing(space):
    assert cost.predict_points(space, []) == cost.Cost()
    assert cost.Cost().seconds == 0.0


def test_every_part_counts_what_it_needs(space):
    """Gradients once a mini-batch size, an inverse once for all dampings, joint updates and networks each."""
    one = cost.predict_points(space, [POINT])
    dampings = cost.predict_points(space, [POINT, POINT.replace(damping=1e-2)])
    assert dampings.gradients == one.gradients > 0
    assert dampings.inverse == one.inverse > 0
    assert dampings.networks == pytest.approx(2 * one.networks)
    fewer = cost.predict_points(space, [POINT, POINT.replace(num_samples=20)])
    assert fewer.gradients == one.gradients
    assert fewer.inverse > one.inverse
    averaged = cost.predict_points(space, [POINT, POINT.replace(mini_batch=4)])
    assert averaged.gradients == pytest.approx(5 * one.gradients)
    blocks = cost.predict_points(space, [POINT, POINT.replace(block_size="network")])
    assert blocks.gradients == one.gradients
    assert blocks.inverse > one.inverse
    assert cost.predict_points(space, [POINT.replace(num_samples=100), POINT]).nbytes > one.nbytes
    joint = cost.predict_points(space, [POINT.replace(update="joint")])
    assert joint.joint > 0 == one.joint
    parts = joint.gradients + joint.inverse + joint.joint + joint.networks
    assert joint.seconds == pytest.approx(parts)


def test_fewer_test_images_cost_less(space):
    """What was measured with few does not stand for all, and the other way round."""
    few = cost.predict(space, [POINT.replace(test_images=50)]).networks
    every = cost.predict(space, [POINT]).networks
    assert few / 50 == pytest.approx(every / len(space.problem(POINT).test))


def test_what_is_kept_is_free(space):
    """After the run only the network itself, which is cheap, is counted."""
    space.outcome(POINT)
    after = cost.predict_points(space, [POINT, POINT.replace(damping=1e-2)])
    assert (after.gradients, after.inverse) == (0.0, 0.0)
    assert after.networks > 0
