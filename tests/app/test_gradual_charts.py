"""The figures and sentences of gradual pruning, on epochs made up here."""

import pandas as pd
import pytest

from app import charts
from app.explain_gradual import (
    budget_sentence,
    epochs_in,
    example,
    headline,
    loss_sentence,
    other_name,
    saw_sentence,
    schedule_sentence,
    verdict_sentence,
)
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.gradual_tables import epoch_points, in_one_step, level_table, other_rise
from woodfisher_core.gradual_run import Score
from woodfisher_core.jobs import Part
from woodfisher_core.schedules import GradualSchedule


def epoch(number: int, before: float | None, pruned: float | None, after: float, sparsity: float = 0.5) -> dict:
    score = lambda value: None if value is None else {"accuracy": value, "loss": (100 - value) / 100}  # noqa: E731
    return {
        "epoch": number,
        "sparsity": sparsity,
        "training_loss": 0.02,
        "before": score(before),
        "pruned": score(pruned),
        "after": score(after),
    }


EPOCHS = [epoch(1, 97.0, 90.0, 95.0), epoch(2, None, None, 96.0), epoch(3, 96.0, 60.0, 94.0, 0.8)]
CONFIG = GradualConfig(
    prune=PruneConfig(model="digits-mlp"),
    schedule=GradualSchedule(final=0.8, initial=0.5, end_epoch=3, frequency=2),
    epochs=3,
)
CUBIC = CONFIG.replace(schedule=GradualSchedule(final=0.8, initial=0.05, end_epoch=6), epochs=10)
DENSE = Score(97.0, 0.1)


def points(label: str = "Magnitude", config: GradualConfig = CONFIG) -> pd.DataFrame:
    return epoch_points(label, config, DENSE, EPOCHS)


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("**", "")


def test_the_saw():
    """The axis begins below the lowest point; falls are triangles."""
    drawn = charts.saw_tooth(points(), 97.0, pd.DataFrame(columns=["method", "label", "accuracy"]), 3)
    line, dense = drawn.data
    assert list(line.x) == [0, 0, 1, 2, 2, 3]
    assert list(line.y) == [97, 90, 95, 96, 60, 94]
    assert [symbol == "triangle-down" for symbol in line.marker.symbol] == [False, True, False, False, True, False]
    assert dense.name == "dense: 97.0 %"
    assert drawn.layout.yaxis.range == (50.0, 102)
    assert drawn.layout.title.text.endswith("?")


def test_the_losses():
    """Training losses, means over an epoch, stand in its middle; the axis is logarithmic, its ticks written out."""
    drawn = charts.loss_curves(points(), 3)
    test, training = drawn.data
    assert list(test.y) == pytest.approx([0.1, 0.1, 0.05, 0.04, 0.4, 0.06])
    assert list(training.x) == [0.5, 1.5, 2.5]
    assert set(training.y) == {0.02}
    assert drawn.layout.yaxis.type == "log"
    assert {"0.05", "0.1", "0.2"} <= set(drawn.layout.yaxis.ticktext)


def test_one_step_looks_otherwise():
    """Two runs of one method differ in dashes and marks, not in colour."""
    both = pd.concat([points("a"), points("b", in_one_step(CONFIG))])
    gradual, at_start = charts.loss_curves(both, 3).data[:2]
    assert gradual.line.color == at_start.line.color
    assert gradual.line.dash != at_start.line.dash
    assert set(gradual.marker.symbol) != set(at_start.marker.symbol)


def test_the_schedule_is_drawn_as_steps():
    """Each step stands at the end of the epoch before it, at its level; another schedule and what was measured on request."""
    levels = level_table(CONFIG.schedule)
    stairs, marks = charts.schedule_levels(levels, 3).data
    assert list(stairs.x) == [0, 0, 0, 2, 2, 3]
    assert list(stairs.y) == [0, 0, 0.5, 0.5, 0.8, 0.8]
    assert list(marks.x) == [0, 2]
    other = levels.assign(level=[0.3, 0.8], name="another")
    reached = pd.DataFrame({"time": [1.0], "sparsity": [0.49]})
    drawn = charts.schedule_levels(levels, 3, other, reached).data
    assert [trace.name for trace in drawn] == [
        "another",
        "planned sparsity",
        "pruning step",
        "measured after each epoch",
    ]
    assert list(drawn[0].y) == [0, 0, 0.3, 0.3, 0.8, 0.8]
    assert (list(drawn[3].x), list(drawn[3].y)) == ([1.0], [0.49])


def test_words_of_the_schedule():
    assert "2 steps: 30.0 % of all weights go in the second, 30.0 % in the last" in plain(schedule_sentence(CONFIG))
    words = plain(schedule_sentence(CUBIC))
    # s = 0.8 - 0.75 (1 - x)^3 at x = 0, 0.2 … 1; the last of 0.6 % is out of 0.206 left, a straight 15 % out of 35 %.
    assert words.startswith("6 steps: 36.6 % of all weights go in the second, 0.6 % in the last, which 5 epochs of")
    assert words.endswith(
        "The last takes 2.9 % of those that are left then; along a straight line it would take 42.9 %."
    )
    assert (
        plain(schedule_sentence(in_one_step(CUBIC))) == "One step to 80.0 % before epoch 1, then 10 epochs of training."
    )
    straight = CUBIC.replace(schedule=other_rise(CUBIC.schedule))
    assert other_name(straight) == "the cubic, for comparison"
    assert example(straight).endswith(r"\right)^{1}\qquad = 0.500")
    assert "10 epochs over 130 images, 30 steps of SGD. This schedule has 6" in budget_sentence(CUBIC, 130)


def test_words_of_the_saw():
    words = lambda epochs: plain(saw_sentence(CONFIG, "Magnitude", epochs, 70.0))  # noqa: E731
    assert words([]).endswith("The steps are not run yet.")
    assert words(EPOCHS[:2]) == (
        "The hardest step of Magnitude, to 50.0 %, costs 7.0 points; the epoch after it brings back 5.0. So far 2 of 3 epochs: "
        "96.00 %."
    )
    assert words(EPOCHS) == (
        "The hardest step of Magnitude, to 80.0 %, costs 36.0 points; the epoch after it brings back 34.0. At the end 94.00 %: "
        "+24.0 points against pruning at once. Straight after the last step it had 60.00 %; no epoch at the final sparsity is "
        "better than the last."
    )
    assert words([epoch(1, 97.0, 97.0, 96.0)]).startswith("No step costs any accuracy. So far 1 of 3")
    assert "brings nothing back" in words([epoch(1, 97.0, 90.0, 89.0)])


def test_best_and_last():
    """Before the final sparsity no epoch counts, however good it was."""
    longer = CONFIG.replace(epochs=4)
    words = plain(saw_sentence(longer, "Magnitude", [*EPOCHS, epoch(4, None, None, 93.0, 0.8)], 70.0))
    assert "best at the final sparsity is epoch 3 with 94.00 %" in words
    assert "At the end 93.00 %" in words


def test_words_of_the_loss():
    words = plain(loss_sentence("Magnitude", EPOCHS, 0.1))
    assert words.startswith("The step to 80.0 % raises the test loss of Magnitude most, by +0.360 nats.")
    assert "After epoch 3 it is 0.060 nats (dense 0.100) and 0.020 on the training images" in words
    assert loss_sentence("Magnitude", [], 0.1) == "The dense network starts from a test loss of 0.100 nats."
    broken = {**EPOCHS[0], "after": {"accuracy": 10.0, "loss": None}}
    assert "not finite" in loss_sentence("Magnitude", [broken], 0.1)


@pytest.mark.parametrize(("gap", "said"), [(0.4, "it is equal within the noise"), (2.0, "it is better than that")])
def test_verdicts(gap, said):
    rivals = pd.DataFrame(
        [("LAMP", 94.0, gap, 1.0), ("Random", 95.0, -1.5, 1.0)], columns=["label", "accuracy", "gap", "noise"]
    )
    words = plain(verdict_sentence(rivals, 500))
    assert f"against LAMP (94.00 %) {said} ({gap:+.2f} ± 1.00 points)" in words
    assert "against Random (95.00 %) it is worse than that" in words
    assert verdict_sentence(rivals[:0], 500) == ""


def test_headlines():
    assert "with training in between, 94.00 %." in plain(headline(CONFIG, "Magnitude", EPOCHS, 70.0, 97.0))
    assert "see below" in headline(CONFIG, "Magnitude", EPOCHS[:2], 70.0, 97.0)


def test_one_step_has_nothing_in_between():
    """What is trained comes after it, and before it where it is not in the first epoch."""
    words = lambda config, epochs=EPOCHS: plain(headline(config, "Magnitude", epochs, 70.0, 97.0))  # noqa: E731
    at_start = in_one_step(CONFIG)
    assert words(at_start).endswith("; in 1 step with 3 epochs of training after it, 94.00 %.")
    assert words(at_start, EPOCHS[:1]).endswith(". In 1 step with 3 epochs of training after it: see below.")
    last = CONFIG.replace(schedule=GradualSchedule(final=0.8, start_epoch=3, end_epoch=3))
    assert "in 1 step after 2 epochs of training and with 1 epoch of training after it" in words(last)


@pytest.mark.parametrize(("steps", "pruned"), [(5, 5), (100, 34)])
def test_a_long_run_is_no_band_of_marks(steps, pruned):
    """Of 100 epochs every third is marked, and every step where these are few; nothing that is drawn moves."""
    levels = {number: number % (100 // steps) == 0 for number in range(1, 101)}
    long = [epoch(number, 97.0, 90.0 if step else None, 95.0) for number, step in levels.items()]
    table = epoch_points("Magnitude", CONFIG, DENSE, long)
    once = pd.DataFrame(columns=["method", "label", "accuracy"])
    for figure in (charts.saw_tooth(table, 97.0, once, 100), charts.loss_curves(table, 100)):
        line = figure.data[0]
        marked = [
            symbol == "triangle-down" for symbol, size in zip(line.marker.symbol, line.marker.size, strict=True) if size
        ]
        assert (sum(marked), len(marked) - sum(marked)) == (pruned, 34)
        assert len(line.x) == len(table)
    training = charts.loss_curves(table, 100).data[1]
    assert (len(training.x), sum(size > 0 for size in training.marker.size)) == (100, 33)
    short = charts.saw_tooth(table[:9], 97.0, once, 40).data[0]
    assert short.marker.size > 0
    reached = table.loc[table["moment"] == "trained", ["time", "sparsity"]]
    rings = charts.schedule_levels(level_table(CONFIG.schedule), 100, None, reached).data[-1]
    assert list(rings.x) == list(range(3, 100, 3))


def test_gaps_are_not_drawn():
    """Epochs behind one that is missing wait for it."""
    parts = [Part(one["epoch"], one) for one in EPOCHS]
    assert epochs_in(parts) == EPOCHS
    assert epochs_in([parts[2], parts[0]]) == EPOCHS[:1]
    assert epochs_in([]) == []
