"""Level lists: the published formulas, the target reached exactly, and schedules refused before anything runs."""

import dataclasses
import itertools

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.options import StageShape
from woodfisher_core.schedules import GradualSchedule, stage_levels

TARGETS = (0.1, 0.7, 0.9, 0.95, 0.98, 1 / 3)


def gradual_levels(initial, final, start, end, frequency, **degree) -> dict[int, float]:
    schedule = GradualSchedule(
        initial=initial, final=final, start_epoch=start, end_epoch=end, frequency=frequency, **degree
    )
    return schedule.levels


def test_stages_by_hand():
    """Four stages to 0.8: equal steps, or 1 − (1 − i/4)³ of it: 37/64, 56/64, 63/64, 1."""
    assert stage_levels(0.8, 4, "linear") == pytest.approx([0.2, 0.4, 0.6, 0.8], rel=1e-14)
    assert stage_levels(0.8, 4, "polynomial") == pytest.approx([0.4625, 0.7, 0.7875, 0.8], rel=1e-14)
    assert stage_levels(0.9, 2, StageShape.LINEAR, start=0.5) == pytest.approx([0.7, 0.9], rel=1e-14)
    assert stage_levels(0.9, 2, StageShape.POLYNOMIAL, start=0.5, degree=2) == pytest.approx([0.8, 0.9], rel=1e-14)


@pytest.mark.parametrize("shape", list(StageShape), ids=str)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stages", [1, 2, 3, 7, 100])
def test_stages_rise_to_exactly_the_target(shape, target, stages):
    """As many levels as stages, each above the one before, all above the start, the last the target itself."""
    levels = (0.05, *stage_levels(target, stages, shape, start=0.05))
    assert len(levels) == stages + 1
    assert levels[-1] == target
    assert all(before < after for before, after in itertools.pairwise(levels))


def test_one_stage_is_one_shot():
    """Whatever the shape."""
    assert stage_levels(0.9, 1, "linear") == stage_levels(0.9, 1, "polynomial") == (0.9,)


def test_staying_is_allowed():
    """Target and start may be the same: nothing more goes."""
    assert stage_levels(0.5, 3, "polynomial", start=0.5) == (0.5, 0.5, 0.5)


def test_gradual_by_hand():
    """Zhu and Gupta's cubic over epochs 1 to 5 from 0.5 to 0.9: 0.4·(1 − x)³ below the target."""
    levels = gradual_levels(0.5, 0.9, 1, 5, 1)
    assert list(levels) == [1, 2, 3, 4, 5]
    assert list(levels.values()) == pytest.approx([0.5, 0.73125, 0.85, 0.89375, 0.9], rel=1e-14)
    assert gradual_levels(0.5, 0.9, 1, 5, 1, degree=1)[3] == pytest.approx(0.7, rel=1e-14)


def test_end_epoch_always_prunes():
    """The official setting [1, 5, 40] prunes last in epoch 36 and stays below its target; here epoch 40 follows."""
    levels = gradual_levels(0.0, 0.95, 1, 40, 5)
    assert list(levels) == [6, 11, 16, 21, 26, 31, 36, 40]
    assert levels[36] == pytest.approx(0.95 * (1 - (4 / 39) ** 3), rel=1e-14)
    assert levels[36] < levels[40] == 0.95
    assert list(gradual_levels(0.0, 0.95, 1, 41, 5)) == [6, 11, 16, 21, 26, 31, 36, 41]


def test_level_zero_is_no_step():
    """From 0 the start epoch removes nothing and is left out; from more it prunes."""
    assert 2 not in gradual_levels(0.0, 0.9, 2, 6, 2)
    assert gradual_levels(0.1, 0.9, 2, 6, 2)[2] == 0.1


def test_one_epoch_and_long_frequencies():
    """Start and end in one epoch is one shot; a frequency beyond the end leaves start and end."""
    assert gradual_levels(0.0, 0.9, 3, 3, 1) == {3: 0.9}
    assert gradual_levels(0.2, 0.9, 3, 3, 1) == {3: 0.9}
    assert gradual_levels(0.2, 0.9, 3, 5, 100) == {3: 0.2, 5: 0.9}


@pytest.mark.parametrize("final", TARGETS)
@pytest.mark.parametrize("frequency", [1, 2, 3, 5])
def test_gradual_rises_to_exactly_the_final(final, frequency):
    """Levels rise with the epochs, within the schedule, and end on the target itself."""
    levels = gradual_levels(0.03, final, 4, 17, frequency)
    assert list(levels) == sorted({*range(4, 17, frequency), 17})
    assert levels[17] == final
    assert all(before < after for before, after in itertools.pairwise(levels.values()))


def test_schedule_is_a_frozen_value():
    """Equal settings are equal and hash alike; nothing can be changed afterwards."""
    schedule = GradualSchedule(final=0.9, end_epoch=8)
    assert schedule == GradualSchedule(final=0.9, initial=0, start_epoch=1, end_epoch=8, frequency=1, degree=3)
    assert hash(schedule) == hash(dataclasses.replace(schedule))
    assert schedule.levels == gradual_levels(0.0, 0.9, 1, 8, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.final = 0.5


GOOD = {"initial": 0.1, "final": 0.9, "start_epoch": 2, "end_epoch": 8, "frequency": 2, "degree": 3.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final": 0.05}, r"expected a schedule that rises, got one from 0.1 down to 0.05\. .*raise the target"),
        ({"end_epoch": 1}, r"last step: expected it in the epoch of the first step \(2\) or a later one, got 1"),
        ({"frequency": 0}, "frequency: expected a whole number of at least 1, got 0"),
        ({"frequency": 1.5}, "frequency: expected a whole number of at least 1, got 1.5"),
        ({"start_epoch": 0}, "start epoch: expected a whole number of at least 1, got 0"),
        ({"end_epoch": True}, "end epoch: expected a whole number of at least 1, got True"),
        ({"final": 1.0}, "sparsity: expected a fraction from 0 to below 1, got 1.0"),
        ({"final": 95}, "sparsity: expected a fraction from 0 to below 1, got 95. For 95 % write 0.95"),
        ({"initial": -0.1}, "sparsity: expected a fraction from 0 to below 1, got -0.1"),
        ({"initial": float("nan")}, "sparsity: expected a fraction from 0 to below 1, got nan"),
        ({"initial": 0.0, "final": 0.0}, "sparsity: expected a final one above 0, got 0"),
        ({"degree": 0}, "degree: expected a positive number .*, got 0"),
        ({"degree": float("inf")}, "degree: expected a positive number .*, got inf"),
    ],
)
def test_impossible_gradual_schedules(changes, message):
    """Refused in plain words when made, before anything runs."""
    with pytest.raises(InputError, match=message):
        GradualSchedule(**GOOD | changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": 0}, "stages: expected a whole number of at least 1, got 0"),
        ({"stages": 2.5}, "stages: expected a whole number of at least 1, got 2.5"),
        ({"shape": "cubic"}, "stage shape: expected one of linear, polynomial, got 'cubic'"),
        ({"start": 0.95}, "expected a schedule that rises, got one from 0.95 down to 0.9"),
        ({"target": 1.2}, "sparsity: expected a fraction from 0 to below 1, got 1.2"),
        ({"degree": -1.0, "shape": "polynomial"}, "degree: expected a positive number .*, got -1.0"),
    ],
)
def test_impossible_stages(arguments, message):
    """The same for stages."""
    with pytest.raises(InputError, match=message):
        stage_levels(**{"target": 0.9, "stages": 4, "shape": "linear"} | arguments)
