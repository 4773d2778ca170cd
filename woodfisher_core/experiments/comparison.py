"""Methods side by side: curves over seeds, settings chosen on images kept for that, and what few images are worth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from woodfisher_core.errors import InputError, NumericalError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.methods import METHODS, Need, get_method
from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, DampingScale, Scope, Update
from woodfisher_core.timing import Stopwatch

# Multiples of the mean curvature that are tried: from nearly undamped to nearly magnitude.
DAMPINGS = (1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
# Training images on which settings are chosen, and a seed of their order that no reported run has.
CHOICE_IMAGES = 2000
CHOICE_SEED = 2**32 - 1
Told = Callable[[str], None]


@dataclass(frozen=True)
class Series:
    """One line of a figure: a method in one setting; ``config``'s own sparsity and seed do not matter.

    ``style`` names whose colours it has.
    """

    label: str
    config: PruneConfig
    style: str = ""


def layer_wise_or_global(config: PruneConfig) -> tuple[Series, ...]:
    """The three lines of the paper's comparison with L-OBS (Singh & Alistarh 2020, figure on L-OBS), in ``config``'s setting.

    L-OBS and WoodFisher prune every layer alike, or WoodFisher has one threshold over all of them; each with its joint update.
    """
    common = config.replace(pattern=None, update_scale=1.0, update=Update.JOINT)
    layer_wise = {"scope": Scope.LAYER}
    return (
        Series("L-OBS, layer-wise", common.replace(method="l-obs", **layer_wise), "l-obs"),
        Series("WoodFisher, layer-wise", common.replace(method="woodfisher", **layer_wise), "woodfisher layer-wise"),
        Series("WoodFisher, global", common.replace(method="woodfisher", scope=Scope.GLOBAL), "woodfisher"),
    )


def curves(
    space: Workspace,
    series: Sequence[Series],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    say: Told | None = None,
    timed: bool = False,
) -> pd.DataFrame:
    """Rows of a line, seed and sparsity: ``label``, ``seed``, ``sparsity``, ``accuracy`` (percent, test), ``loss``, ``seconds``.

    ``seconds`` is what the whole curve took, evaluation left out, over its number of points; where it is ``timed``, nothing is
    shared with other lines. NaN stands where a quadratic model breaks down numerically, and beyond a method's reach.
    """
    rows = []
    for one in series:
        for seed in seeds:
            if say:
                say(f"{one.label}, seed {seed}")
            if seed != seeds[0] and not _draws(one.config):
                rows += [{**row, "seed": seed} for row in rows[-len(sparsities) :]]  # the same whatever the seed
                continue
            if timed:
                space.forget()
            rows += _curve(space, one, sparsities, seed)
    return pd.DataFrame(rows)


def _draws(config: PruneConfig) -> bool:
    """Whether the seed can change the result of ``config``."""
    return config.uses_data or config.batchnorm_images > 0 or Need.SEED in get_method(config.method).needs


def _curve(space: Workspace, one: Series, sparsities: Sequence[float], seed: int) -> Iterator[dict[str, object]]:
    config = one.config.replace(seed=seed)
    problem = space.problem(config)
    watch = Stopwatch(problem.device)
    found: dict[float, tuple[float, float]] = {}
    try:
        reached = space.reached(config, sparsities, watch)
        for sparsity, outcome in zip(reached, space.outcomes(config, reached, watch), strict=True):
            result = problem.evaluate(outcome.weights, problem.test, outcome.tensors)
            found[sparsity] = (result.accuracy, result.loss)
    except NumericalError:
        found = {}
    seconds = sum(watch.seconds.values()) / len(sparsities)
    for sparsity in sparsities:
        accuracy, loss = found.get(sparsity, (np.nan, np.nan))
        yield {
            "label": one.label,
            "seed": seed,
            "sparsity": sparsity,
            "accuracy": accuracy,
            "loss": loss,
            "seconds": seconds,
        }


def summary(table: pd.DataFrame, by: str = "sparsity") -> pd.DataFrame:
    """Over the seeds of each ``label`` and ``by``: ``mean``, its standard ``error`` (0 of one seed), ``count``, ``seconds``."""
    groups = table.groupby(["label", by], sort=False)
    found = groups["accuracy"].agg(mean="mean", spread="std", count="count").reset_index()
    found["error"] = (found.pop("spread") / np.sqrt(found["count"])).fillna(0.0)
    found["seconds"] = groups["seconds"].mean().to_numpy()
    return found


def choices(config: PruneConfig, dampings: Sequence[float] = DAMPINGS) -> Iterator[PruneConfig]:
    """The settings of ``config``'s method to choose from: updates, λ as a multiple of the mean curvature, and blocks."""
    method = get_method(config.method)
    blocks = (BLOCK_LAYER, BLOCK_NETWORK) if config.uses_inverse and config.uses_gradients else (config.block_size,)
    # A statistic without a curvature of its own stands for itself: no update borrowed from WoodFisher.
    updates = method.updates if method.default_update is not Update.NONE else (Update.NONE,)
    for update in updates:
        one = config.replace(update=update, update_scale=1.0)
        if not one.uses_damping:
            yield one
            continue
        for damping in dampings:
            for block in blocks:
                yield one.replace(damping=damping, damping_scale=DampingScale.RELATIVE, block_size=block)


def chosen(
    space: Workspace,
    config: PruneConfig,
    sparsities: Sequence[float],
    say: Told | None = None,
    dampings: Sequence[float] = DAMPINGS,
) -> tuple[PruneConfig, float]:
    """(the best of :func:`choices`, its score): mean accuracy in percent over ``sparsities`` on training images kept for it.

    Neither the test set nor any Fisher sample is looked at: gradients come from the first images of an order of its own, the
    score from the last.
    """
    best: tuple[PruneConfig, float] | None = None
    tried = list(choices(config.replace(seed=CHOICE_SEED), dampings))
    for number, one in enumerate(tried, start=1):
        if say:
            say(f"{one.method}: setting {number} of {len(tried)}")
        score = _score(space, one, sparsities) if len(tried) > 1 else 0.0
        if best is None or score > best[1]:
            best = (one, score)
    return best[0].replace(seed=config.seed), best[1]


def _score(space: Workspace, config: PruneConfig, sparsities: Sequence[float]) -> float:
    problem = space.problem(config)
    _, kept = space.samples(config.replace(held_out=CHOICE_IMAGES))
    if len(kept) == 0:
        raise InputError(
            f"settings: expected some training images that no gradient comes from to choose on, got none beside "
            f"{config.num_samples * config.mini_batch:,} samples in {config.stages} stages. Lower num_samples or the stages."
        )
    samples = problem.train_samples(kept)
    try:
        outcomes = space.outcomes(config, space.reached(config, sparsities))
        return float(np.mean([problem.evaluate(o.weights, samples, o.tensors).accuracy for o in outcomes]))
    except NumericalError:
        return -np.inf


def with_images(config: PruneConfig, images: int) -> PruneConfig:
    """``config`` where only so many training images exist: all of them are its samples, and BatchNorm's where it asks for any."""
    few = {"num_samples": images, "mini_batch": 1, "images": images}
    settle = images if config.batchnorm_images else 0
    return config.replace(batchnorm_images=settle, repair_batchnorm=min(config.repair_batchnorm, images), **few)


def limited_data(
    space: Workspace,
    series: Sequence[Series],
    sparsity: float,
    counts: Sequence[int],
    seeds: Sequence[int],
    say: Told | None = None,
) -> pd.DataFrame:
    """One row a line, number of images and seed: ``label``, ``images``, ``seed``, ``accuracy``, ``loss``, ``seconds``.

    With k images all k are the samples, for gradients and activations, and for BatchNorm where a line re-estimates it; each
    seed has other images.
    """
    rows = []
    for one in series:
        for images in counts:
            found = curves(space, [Series(one.label, with_images(one.config, images))], [sparsity], seeds)
            if say:
                say(f"{one.label}, {images:,} images")
            rows += [{**row, "images": images} for row in found.to_dict("records")]
    return pd.DataFrame(rows)


def all_methods(space: Workspace, config: PruneConfig) -> tuple[Series, ...]:
    """A line a method that takes the network of ``config``, each with its own update, in ``config``'s setting."""
    names = usable_methods(space.problem(config).parameters.num_prunable)
    common = config.replace(pattern=None, update_scale=1.0, update=Update.NONE)
    return tuple(
        Series(get_method(name).label, common.replace(method=name, update=None, **_fitting(name, config)), name)
        for name in names
    )


def _fitting(name: str, config: PruneConfig) -> dict[str, object]:
    """What a method cannot do as ``config`` asks, as it can."""
    method = get_method(name)
    scope = config.scope if config.scope in method.scopes else method.scopes[0]
    budget = config.budget if config.budget in method.budgets else method.budgets[0]
    return {"scope": scope, "budget": budget} | ({"flops_power": 0.0} if method.chooses else {})


def usable_methods(num_prunable: int) -> tuple[str, ...]:
    """The methods that take a network of so many weights."""
    return tuple(m.name for m in METHODS.values() if m.largest is None or num_prunable <= m.largest)
