"""Better, worse or equal: differences and their noise against sums written out by hand, in pairs."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from woodfisher_core.evaluation import Evaluation, lead_by_luck, paired_standard_error
from woodfisher_core.experiments.trials import Trial
from woodfisher_core.experiments.verdicts import BETTER, EQUAL, MISSING, WORSE, against, difference, verdict


def trial(right: np.ndarray) -> Trial:
    return Trial(100 * float(right.mean()), 0.0, np.packbits(right).tobytes(), len(right))


def answers(seeds: int, share: float, seed: int, images: int = 83) -> list[np.ndarray]:
    draw = np.random.RandomState(seed)
    return [draw.random_sample(images) < share for _ in range(seeds)]


def test_one_seed_is_mcnemar():
    """Only the images that one of the two gets right count."""
    own, other = answers(1, 0.8, 1)[0], answers(1, 0.7, 2)[0]
    targets = torch.zeros(len(own), dtype=torch.long)
    evaluations = [Evaluation(0.0, 0.0, torch.from_numpy(~right).long(), targets) for right in (own, other)]
    gap, margin = difference([own], [other])
    assert gap == pytest.approx(100 * (int(own.sum()) - int(other.sum())) / 83)
    assert margin == pytest.approx(1.96 * paired_standard_error(*evaluations))


@pytest.mark.parametrize("differing", range(0, 120, 1))
def test_the_margin_is_that_of_the_exact_test(differing):
    """Whatever lies within it the binomial test calls luck, and nothing beyond."""
    for ahead in range(differing % 2, differing + 1, 2):
        luck = stats.binomtest((differing - ahead) // 2, differing).pvalue > 0.05 if differing else True
        assert (ahead <= lead_by_luck(differing)) == luck


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_seeds_and_images_both_make_noise(seeds):
    """The root of both squares: 1.96 standard errors over images, Student's t times that over seeds."""
    own, other = answers(seeds, 0.8, 1), answers(seeds, 0.7, 2)
    by_image = [sum(float(own[s][i]) - float(other[s][i]) for s in range(seeds)) / seeds for i in range(83)]
    images = 1.96 * math.sqrt(sum(x * x for x in by_image)) / 83
    by_seed = [sum(float(a) - float(b) for a, b in zip(own[s], other[s], strict=True)) / 83 for s in range(seeds)]
    mean = sum(by_seed) / seeds
    spread = math.sqrt(sum((x - mean) ** 2 for x in by_seed) / (seeds - 1) / seeds)
    drawn = stats.t.ppf(0.975, seeds - 1) * spread
    gap, margin = difference(own, other)
    assert gap == pytest.approx(100 * mean)
    assert margin == pytest.approx(100 * math.sqrt(images**2 + drawn**2))


def test_the_noise_covers_what_luck_makes():
    """Two methods that are equally good differ beyond the noise in about one comparison of twenty."""
    draw = np.random.RandomState(0)
    beyond = 0
    for _ in range(400):
        own, other = (draw.random_sample((1, 300)) < 0.8 for _ in range(2))
        gap, margin = difference(list(own), list(other))
        beyond += abs(gap) > margin
    assert 5 <= beyond <= 36  # 20 expected; binomial, four standard deviations


def test_verdicts():
    assert verdict(2.0, 1.0) == BETTER
    assert verdict(-2.0, 1.0) == WORSE
    assert verdict(1.0, 1.0) == verdict(0.0, 0.0) == EQUAL


def test_the_table_says_it_all():
    """A row a line: mean, error over the seeds, difference and verdict; what failed says why."""
    good, bad = np.ones(200, bool), np.arange(200) < 100
    trials = {
        "base": (trial(bad), trial(bad)),
        "same": (trial(bad), trial(bad)),
        "good": (trial(good), trial(np.arange(200) < 198)),
        "gone": (trial(good), Trial(why="no inverse")),
    }
    table = against(trials, "base").set_index("label")
    assert list(table.index) == list(trials)
    assert table["verdict"].to_dict() == {"base": EQUAL, "same": EQUAL, "good": BETTER, "gone": MISSING}
    assert table.loc["good", "accuracy"] == pytest.approx(99.5)
    assert table.loc["good", "error"] == pytest.approx(0.5)
    assert table.loc["good", "difference"] == pytest.approx(49.5)
    assert table.loc["same", "noise"] == 0.0
    assert table.loc["gone", "why"] == "no inverse"
    assert math.isnan(table.loc["gone", "difference"])
    one = against({name: some[:1] for name, some in trials.items()}, "good").set_index("label")
    assert one["error"].isna().all()
    assert one.loc["base", "verdict"] == WORSE
