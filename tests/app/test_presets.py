"""Every preset is a setting of the controls, and really makes its point: beyond the noise of seeds, or of the test images."""

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from app.linking import link_of
from app.presets import PRESETS, START, Preset
from woodfisher_core.evaluation import paired_standard_error
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.tables import layer_table

PAGES = Path(__file__).parents[2] / "app" / "app_pages"
SEEDS = range(5)
BY_NAME = {preset.name: preset for preset in PRESETS}
# What the parameters are called in a config.
FIELDS = {"samples": "num_samples", "block": "block_size", "with": None, "scale": None, "tests": None, "images": None}


@pytest.fixture(scope="module")
def space():
    return Workspace()


def config_of(preset: Preset) -> PruneConfig:
    values = {}
    for name, given in preset.link.items():
        field = FIELDS.get(name, name.replace("-", "_"))
        if field in ("num_samples", "stages", "seed"):
            values[field] = int(given)
        elif field in ("sparsity", "damping", "flops_power"):
            values[field] = float(given)
        elif field is not None:
            values[field] = None if given == "none" and field == "pattern" else given
    return PruneConfig(**values, solver="spectral")


def accuracies(space: Workspace, config: PruneConfig) -> list[float]:
    return [space.evaluation(config.replace(seed=seed)).accuracy for seed in SEEDS]


def surely_below(space: Workspace, worse: PruneConfig, better: PruneConfig) -> bool:
    """Over the seeds, by more than twice the standard error of the mean difference; and by a point at least."""
    gaps = [b - w for w, b in zip(accuracies(space, worse), accuracies(space, better), strict=True)]
    return statistics.mean(gaps) > max(1.0, 2.0 * statistics.stdev(gaps) / len(gaps) ** 0.5)


def magnitude(config: PruneConfig) -> PruneConfig:
    return config.replace(method="magnitude", update="none", scope="global")


def paper(space: Workspace, config: PruneConfig) -> bool:
    return surely_below(space, magnitude(config), config)


def blind(space: Workspace, config: PruneConfig) -> bool:
    """The same number of weights, no update either: the choice alone."""
    ours = config.replace(method="woodfisher")
    keeps = [space.outcome(one).mask.keep for one in (config, ours)]
    assert int(keeps[0].sum()) == int(keeps[1].sum())
    return surely_below(space, config, ours) and not bool((keeps[0] == keeps[1]).all())


def little_damping(space: Workspace, config: PruneConfig) -> bool:
    return surely_below(space, config, config.replace(damping=1e-3)) and surely_below(space, config, magnitude(config))


def much_damping(space: Workspace, config: PruneConfig) -> bool:
    """Worse, and nearer to magnitude's mask."""
    usual = config.replace(damping=1e-3)
    keeps = [space.outcome(one).mask.keep for one in (magnitude(config), usual, config)]
    near = [int((keeps[0] & keep).sum()) for keep in keeps]
    return surely_below(space, config, usual) and near[1] < near[2]


def few_samples(space: Workspace, config: PruneConfig) -> bool:
    return surely_below(space, config, config.replace(num_samples=1000))


def diagonal(space: Workspace, config: PruneConfig) -> bool:
    return surely_below(space, config, config.replace(block_size="layer")) and surely_below(
        space, config, magnitude(config)
    )


def joint_over_independent(space: Workspace, config: PruneConfig) -> bool:
    both = [config.replace(update=update) for update in ("independent", "joint")]
    assert bool((space.outcome(both[0]).mask.keep == space.outcome(both[1]).mask.keep).all())
    return surely_below(space, *both)


def collapse(space: Workspace, config: PruneConfig) -> bool:
    """Guessing among ten digits, though every layer keeps its share."""
    problem = space.problem(config)
    layers = layer_table(problem.parameters, space.outcome(config).mask.keep)
    assert layers["sparsity"].max() - layers["sparsity"].min() < 0.02
    return max(accuracies(space, config)) < 15.0 and surely_below(space, config, config.replace(scope="global"))


def no_labels(space: Workspace, config: PruneConfig) -> bool:
    """Equal within the noise of the seeds and of the test images, and both ahead of magnitude."""
    true = config.replace(labels="true")
    gaps = [a - b for a, b in zip(accuracies(space, config), accuracies(space, true), strict=True)]
    noise = paired_standard_error(space.evaluation(config), space.evaluation(true))
    return abs(statistics.mean(gaps)) < 2.0 * noise and surely_below(space, magnitude(config), config)


POINTS: dict[str, Callable[[Workspace, PruneConfig], bool]] = {
    "Paper settings": paper,
    "Magnitude is blind": blind,
    "Too little damping": little_damping,
    "Too much damping": much_damping,
    "Too few samples": few_samples,
    "Diagonal only": diagonal,
    "Independent at 90 %": joint_over_independent,
    "Joint at 90 %": joint_over_independent,
    "A layer collapses": collapse,
    "No labels needed": no_labels,
}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_makes_its_point(space, preset):
    assert POINTS[preset.name](space, config_of(preset))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_is_a_setting_of_the_controls(preset):
    """Every parameter is one that a control has, with a value it offers: the config's own link says the same."""
    link, lost = link_of(config_of(preset))
    assert not lost
    for name, value in preset.link.items():
        if name != "with":
            own = link[name]
            shown = own if own != "auto" or name == "device" else str(config_of(preset).update)
            assert shown == value or float(shown) == float(value), name
    assert (PAGES / f"{preset.page}.py").is_file()
    assert preset.point.endswith(".")


def test_names_are_its_own():
    assert len(BY_NAME) == len(PRESETS)
    assert not [preset.name for preset in PRESETS if preset.link == START and preset.query]


def test_a_preset_opens(opened):
    """The page takes the whole link: the run it shows is the preset's."""
    preset = BY_NAME["Diagonal only"]
    page = opened(f"app_pages/{preset.page}.py", **preset.link)
    assert not page.exception
    assert not page.error
    assert page.selectbox(key="block").value == "1"
    assert page.selectbox(key="update").value == "joint"
