"""The config: JSON both ways, refusals by name, and a key that changes with every result-changing field."""

import dataclasses
import json

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import ENGINE_VERSION, PruneConfig
from woodfisher_core.methods import METHODS

CHANGES = {
    "method": "magnitude",
    "sparsity": 0.5,
    "budget": "flops",
    "flops_power": 0.3,
    "num_samples": 10,
    "mini_batch": 2,
    "labels": "sampled",
    "damping": 0.1,
    "damping_scale": "relative",
    "block_size": 7,
    "update": "joint",
    "update_scale": 0.5,
    "scope": "layer",
    "seed": 1,
    "solver": "primal",
    "gradient_precision": "bfloat16",
    "images": 2000,
    "batchnorm_images": 10,
    "stages": 2,
    "stage_shape": "linear",
    "fresh_samples": False,
    "probes": 3,
    "model": "digits-mlp",
    "weights_hash": "0" * 64,
    "data_hash": "1" * 64,
    "exclude": ("fc1",),
    "sample_indices": (1, 2, 3),
    "held_out": 5,
    "test_images": 100,
    "repair_batchnorm": 100,
    "device": "cpu",
}
# These follow from others, or name places rather than results.
DERIVED, PLACES = {"dataset", "engine_version"}, {"data_dir": "/somewhere", "weights": "other.pt"}
# Cannot be varied alone: it brings its sparsity with it.
PATTERN = {"pattern": "2:4", "sparsity": 0.5}


def test_every_field_is_accounted_for():
    """A new field must say here whether it changes the key."""
    assert {f.name for f in dataclasses.fields(PruneConfig)} == set(CHANGES) | DERIVED | set(PLACES) | {"pattern"}


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_key_changes_with_what_changes_results(name, value):
    """Each such field alone makes another key."""
    base = PruneConfig()
    assert (
        base.replace(**{name: value}).key != base.key if name != "model" else PruneConfig(model=value).key != base.key
    )


def test_a_pattern_is_part_of_the_key():
    """Half of the weights by a pattern is another run than half by a threshold, and another than half of larger groups."""
    keys = {PruneConfig(sparsity=0.5, pattern=pattern).key for pattern in (None, "2:4", "4:8", "1:2")}
    assert len(keys) == 4
    assert PruneConfig(**PATTERN).key == PruneConfig(pattern=" 2:4 ").key


@pytest.mark.parametrize(("name", "value"), PLACES.items())
def test_key_ignores_places(name, value):
    """Where files lie does not change a result."""
    assert PruneConfig(**{name: value}).key == PruneConfig().key


@pytest.mark.parametrize(
    "fields", [*({name: value} for name, value in {**CHANGES, **PLACES}.items()), PATTERN], ids=str
)
def test_json_round_trip(fields):
    """Every field survives JSON, and the config stays hashable and equal."""
    config = PruneConfig(**fields)
    back = PruneConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert back == config
    assert (hash(back), back.key) == (hash(config), config.key)


def test_equal_configs_however_written():
    """Plain strings, numbers as text and whole floats mean the same as their parsed forms."""
    assert PruneConfig(block_size="32").key == PruneConfig(block_size=32).key
    assert PruneConfig(update="independent").key == PruneConfig().key
    assert PruneConfig(sparsity=0).key == PruneConfig(sparsity=0.0).key
    assert PruneConfig(damping=1).key == PruneConfig(damping=1.0).key
    assert PruneConfig(exclude=["a"]).key == PruneConfig(exclude=("a",)).key


def test_frozen():
    """A config cannot be changed after it was checked."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        PruneConfig().sparsity = 0.5


def test_method_default_update():
    """Without an update the method's own is filled in, so that the config names it."""
    assert {name: PruneConfig(method=name).update for name in METHODS} == {
        name: method.default_update for name, method in METHODS.items()
    }
    some = {"magnitude": "none", "diagonal-fisher": "none", "woodfisher": "independent", "woodtaylor": "joint"}
    assert {name: PruneConfig(method=name).update for name in some} == some


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sparsty": 0.5, "colour": 1}, "unknown field colour, sparsty; expected among "),
        (
            {"engine_version": ENGINE_VERSION + 1},
            f"version {ENGINE_VERSION}, the config was made by {ENGINE_VERSION + 1}",
        ),
        ({"sparsity": 2.0}, "sparsity: expected a fraction from 0 to below 1, got 2.0"),
        ({"sparsity": 0.6, "pattern": "2:4"}, "the pattern 2:4 removes 0.5 of the weights, got 0.6. Leave it out"),
        ({"model": "vgg"}, "model: expected one of"),
        ({"dataset": "digits"}, "dataset: mlpnet reads mnist, got 'digits'"),
        ({"held_out": -1}, "held-out samples: expected a whole number of at least 0, got -1"),
    ],
)
def test_bad_values_are_refused(values, message):
    """Unknown fields by name, bad values with what was expected."""
    with pytest.raises(InputError, match=message):
        PruneConfig.from_dict(values)
