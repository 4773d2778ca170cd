"""From a kept run's config back to the controls of its page: the link that sets them, and what they cannot show."""

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Sequence

from app.facts import Facts, facts_of
from app.schedule import BATCHES, MOST_EPOCHS, RATES, RISES, gradual_config
from app.state import (
    AUTO,
    BATCHNORM_COUNTS,
    BLOCK_SIZES,
    DAMPINGS,
    FLOPS_POWERS,
    IMAGE_COUNTS,
    PATTERNS,
    SAMPLE_COUNTS,
    STAGES,
    TEST_COUNTS,
)
from woodfisher_core.data.brought import is_own
from woodfisher_core.devices import resolve_device
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.methods import get_method
from woodfisher_core.models import get_model
from woodfisher_core.models.base import SHIPPED
from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, Solver
from woodfisher_core.store.compare import written
from woodfisher_core.store.store import flat

Query = dict[str, str | list[str]]
# Fields that a control of Explore sets, and those that say where or by which engine, and no wish.
WITH_CONTROL = frozenset(
    (
        *(
            "model",
            "dataset",
            "weights",
            "exclude",
            "method",
            "sparsity",
            "pattern",
            "budget",
            "flops_power",
            "scope",
            "update",
        ),
        *("update_scale", "num_samples", "images", "batchnorm_images", "stages", "stage_shape", "damping"),
        *("damping_scale", "block_size", "labels", "seed", "device", "test_images"),
    )
)
NO_WISH = frozenset(("data_dir", "weights_hash", "data_hash", "engine_version"))
LARGEST_SPARSITY = 0.99


def link_of(config: PruneConfig) -> tuple[Query, dict[str, tuple[object, object]]]:
    """(Explore's query parameters for ``config``, what they cannot say: field → (the run's value, the one shown instead))."""
    facts, method = facts_of(config.model, config.dataset), get_method(config.method)
    lost: dict[str, tuple[object, object]] = {}

    def near(field: str, options: Sequence[float], logarithmic: bool = False) -> int:
        """The position of the option that is the field's value, or the nearest one, which is noted."""
        value = getattr(config, field)
        scale = (lambda x: math.log(x)) if logarithmic else float
        at = min(range(len(options)), key=lambda i: abs(scale(options[i]) - scale(value)))
        if not math.isclose(options[at], value, rel_tol=1e-9, abs_tol=1e-12):
            lost[field] = (value, options[at])
        return at

    def either(field: str, options: Sequence[str], fallback: str) -> str:
        value = getattr(config, field)
        if value in options:
            return str(value)
        lost[field] = (value, fallback)
        return fallback

    query: Query = {
        "model": config.model,
        "method": either("method", facts.methods, "woodfisher"),
        "scope": str(config.scope),
        "update": AUTO if config.update == method.default_update else str(config.update),
        "pattern": either("pattern", PATTERNS, "none") if config.pattern else "none",
        "budget": str(config.budget),
        "stages": str(STAGES[near("stages", STAGES)]),
        "stage-shape": str(config.stage_shape),
        "flops-power": str(FLOPS_POWERS[near("flops_power", FLOPS_POWERS)]),
        "labels": str(config.labels),
        "damping-scale": str(config.damping_scale),
        "seed": str(config.seed),
        "device": _device(config, lost),
        "without": _exclude(config, facts, lost),
    }
    if config.weights == SHIPPED or is_own(config.weights):
        query["weights"] = config.weights
    else:
        lost["weights"] = (config.weights, SHIPPED)
    if len(get_model(config.model).datasets) > 1 or is_own(config.dataset):
        query["data"] = config.dataset
    if config.pattern is None:
        query["sparsity"] = f"{near('sparsity', [i / 100 for i in range(round(100 * LARGEST_SPARSITY) + 1)]) / 100:g}"
    query["scale"] = f"{near('update_scale', [i / 20 for i in range(21)]) / 20:g}"
    dampings = DAMPINGS[config.damping_scale]
    query["damping"] = dampings[near("damping", [float(d) for d in dampings], logarithmic=True)]
    query["images"] = _count("images", config, IMAGE_COUNTS, facts.train_size, near)
    query["tests"] = _count("test_images", config, TEST_COUNTS, facts.test_size, near)
    most = facts.train_size if query["images"] == "all" else int(query["images"])
    counts = [count for count in SAMPLE_COUNTS if count <= most]
    query["samples"] = str(counts[near("num_samples", counts, logarithmic=True)])
    if facts.has_batchnorm:
        query["batchnorm"] = str(BATCHNORM_COUNTS[near("batchnorm_images", BATCHNORM_COUNTS)])
    elif config.batchnorm_images:
        lost["batchnorm_images"] = (config.batchnorm_images, 0)
    if config.block_size in (BLOCK_LAYER, BLOCK_NETWORK):
        query["block"] = str(config.block_size)
    else:
        sizes = [int(size) for size in BLOCK_SIZES if int(size) < facts.num_prunable]
        query["block"] = str(sizes[near("block_size", sizes, logarithmic=True)])
    explores = PruneConfig(model=config.model, dataset=config.dataset, solver=Solver.SPECTRAL)
    for field in (f.name for f in dataclasses.fields(config)):
        if field not in WITH_CONTROL | NO_WISH and getattr(config, field) != getattr(explores, field):
            lost[field] = (getattr(config, field), getattr(explores, field))
    return query, lost


def gradual_link_of(config: GradualConfig) -> tuple[Query, dict[str, tuple[object, object]]]:
    """The same for the Gradual page and a gradual run."""
    query, lost = link_of(config.prune)
    schedule, tuning = config.schedule, config.tuning
    rate = min(RATES, key=lambda option: abs(math.log(float(option) / tuning.learning_rate)))
    batch = min(BATCHES, key=lambda option: abs(option - tuning.batch_size))
    epochs = min(config.epochs, MOST_EPOCHS)
    first, last = min(schedule.start_epoch, epochs), min(schedule.end_epoch, epochs)
    every = min(schedule.frequency, MOST_EPOCHS)
    rise = min(RISES, key=lambda option: abs(RISES[option] - schedule.degree))
    steps = {"epochs": epochs, "first": first, "last": last, "every": every, "rise": rise, "rate": rate, "batch": batch}
    shown = gradual_config(config.prune, epochs, first, last, every, float(rate), batch, degree=RISES[rise])
    own, there = flat(config.to_dict()), flat(shown.to_dict())
    lost |= {name: (value, there[name]) for name, value in own.items() if value != there[name]}
    return query | {name: str(value) for name, value in steps.items()}, lost


def _device(config: PruneConfig, lost: dict) -> str:
    automatic = str(resolve_device(AUTO))
    if config.device in (AUTO, automatic):
        return AUTO
    if config.device == "cpu":
        return "cpu"
    lost["device"] = (config.device, automatic)
    return AUTO


def _exclude(config: PruneConfig, facts: Facts, lost: dict) -> list[str]:
    """The layers left alone; names of parameters and shell patterns become the layers they mean, under another key."""
    if set(config.exclude) <= set(facts.layers):
        return list(config.exclude)
    meant = [
        layer
        for layer in facts.layers
        if any(fnmatch.fnmatchcase(name, given) for name in (layer, f"{layer}.weight") for given in config.exclude)
    ]
    lost["exclude"] = (list(config.exclude), meant)
    return meant


def _count(field: str, config: PruneConfig, offered: Sequence[str], size: int, near: Callable[..., int]) -> str:
    """``all``, or the number of images offered that is nearest."""
    if getattr(config, field) is None:
        return "all"
    counts = [int(count) for count in offered if count != "all" and int(count) < size]
    return str(counts[near(field, counts, logarithmic=True)]) if counts else "all"


def lost_sentence(lost: dict[str, tuple[object, object]], page: str = "Explore") -> str:
    """What ``page`` will show otherwise, in words; empty where it shows the very run."""
    if not lost:
        return ""
    parts = [
        f"{field.replace('_', ' ')} {_short(shown)} in place of {_short(own)}" for field, (own, shown) in lost.items()
    ]
    return f"{page} has no control for all of this run. It will show {'; '.join(parts)}."


def _short(value: object) -> str:
    text = written(value)
    return text if len(text) <= 40 else text[:39] + "…"
