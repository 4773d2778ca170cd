"""Gradual configs: JSON both ways, refusals by name, and a key that says exactly which run it is."""

import dataclasses
import itertools
import json
import random

import pytest

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.experiments.gradual_record import epoch_values, epochs_of, gradual_record
from woodfisher_core.experiments.kinds import KINDS, parse_config
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.store import Store

SMALL = PruneConfig(model="digits-mlp", num_samples=40, device="cpu")
BASE = GradualConfig(prune=SMALL, schedule=GradualSchedule(final=0.9, end_epoch=3), epochs=4)

# Values a field may take; two of a field are never the same setting.
PRUNE = {
    "model": ("digits-mlp", "digits-cnn"),
    "method": ("woodfisher", "magnitude", "kfac"),
    "num_samples": (40, 10),
    "damping": (1e-3, 1, 0.1),
    "block_size": ("layer", 7),
    "seed": (0, 5),
    "exclude": ((), ("fc1",)),
    "images": (None, 500),
    "scope": ("global", "layer"),
}
SCHEDULE = {
    "final": (0.9, 0.5),
    "end_epoch": (2, 3),
    "initial": (0.0, 0.25),
    "start_epoch": (1, 2),
    "frequency": (1, 2),
    "degree": (3, 1),
}
TUNING = {
    "optimizer": ("sgd", "adam"),
    "learning_rate": (0.01, 0.1),
    "rate_shape": ("cosine", "step", "constant"),
    "step_epochs": (10, 2),
    "step_factor": (0.1, 1),
    "momentum": (0.9, 0),
    "weight_decay": (1e-4, 0),
    "batch_size": (64, 16),
    "augment": (False, True),
    "precision": ("float32", "bfloat16"),
}


def drawn(generator: random.Random) -> GradualConfig:
    """A config with every field drawn from the tables."""
    pick = lambda table: {name: generator.choice(values) for name, values in table.items()}  # noqa: E731
    return GradualConfig(
        prune=PruneConfig(**pick(PRUNE)),
        schedule=GradualSchedule(**pick(SCHEDULE)),
        epochs=generator.choice((3, 4)),
        tuning=FineTuning(**pick(TUNING)),
    )


def through_json(config: GradualConfig) -> GradualConfig:
    return GradualConfig.from_dict(json.loads(json.dumps(config.to_dict())))


def test_the_tables_know_every_field():
    """A new field of schedule or training must be added here."""
    assert set(SCHEDULE) == {field.name for field in dataclasses.fields(GradualSchedule)}
    assert set(TUNING) == {field.name for field in dataclasses.fields(FineTuning)}


@pytest.mark.parametrize("seed", range(60))
def test_json_both_ways(seed):
    """Whatever is drawn comes back equal, hashes alike and keeps its key, read as a kind or by its class."""
    config = drawn(random.Random(seed))
    back = through_json(config)
    assert back == config
    assert (hash(back), back.key) == (hash(config), config.key)
    assert parse_config("gradual", config.to_dict()) == config
    assert parse_config("prune", config.prune.to_dict()) == config.prune


def test_equal_keys_mean_equal_runs():
    """Of 150 drawn configs two have the same key exactly where they are equal."""
    generator = random.Random(0)
    configs = [drawn(generator) for _ in range(150)]
    configs += [through_json(config) for config in configs[:20]]
    keyed = [(config.key, config) for config in configs]
    for (key, one), (other_key, other) in itertools.combinations(keyed, 2):
        assert (key == other_key) == (one == other)
    assert len({key for key, _ in keyed}) > 100


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        *(("prune", name, values[1]) for name, values in PRUNE.items()),
        *(("schedule", name, values[1]) for name, values in SCHEDULE.items() if name != "end_epoch"),
        *(("tuning", name, values[1]) for name, values in TUNING.items()),
        ("schedule", "end_epoch", 2),
    ],
)
def test_every_field_alone_makes_another_key(group, name, value):
    changed = BASE.replace(**{group: dataclasses.replace(getattr(BASE, group), **{name: value})})
    assert changed.key != BASE.key
    assert changed != BASE


def test_what_means_the_same_is_the_same():
    """Where files lie, how numbers are written, and the two fields that a gradual run does not read."""
    for own in ({"data_dir": "/elsewhere"}, {"weights": "/a/file"}):
        assert BASE.replace(prune=SMALL.replace(**own)).key == BASE.key
    for own in ({"held_out": 5}, {"sparsity": 0.1}, {"damping": 0.001}):
        assert BASE.replace(prune=SMALL.replace(**own)) == BASE
    assert BASE.replace(schedule=GradualSchedule(final=0.9, end_epoch=3, degree=3)) == BASE


def values_with(**changes) -> dict:
    """BASE's JSON with fields changed; ``group__field`` goes into a group, and None takes one away."""
    found = json.loads(json.dumps(BASE.to_dict()))
    for name, value in changes.items():
        *group, field = name.split("__")
        place = found[group[0]] if group else found
        if value is None:
            del place[field]
        else:
            place[field] = value
    return found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (values_with(colour=1, tone=2), "config: unknown field colour, tone; expected among epochs, prune, schedule"),
        (values_with(tuning__colour=1), "config: unknown field tuning.colour; expected among augment, batch_size"),
        (values_with(schedule__colour=1), "config: unknown field schedule.colour; expected among degree, end_epoch"),
        (values_with(prune__colour=1), "config: unknown field prune.colour; expected among"),
        (values_with(epochs=None), "config: field epochs is missing"),
        (values_with(schedule__final=None), "config: field schedule.final is missing"),
        (values_with(epochs="4"), "config: epochs: expected a whole number, got '4'"),
        (values_with(epochs=4.0), "config: epochs: expected a whole number, got 4.0"),
        (values_with(epochs=True), "config: epochs: expected a whole number, got True"),
        (values_with(tuning=[]), r"config: tuning: expected an object of fields, got \[\]"),
        (values_with(tuning__augment="no"), "config: tuning.augment: expected true or false, got 'no'"),
        (values_with(tuning__learning_rate="0.1"), "config: tuning.learning_rate: expected a number, got '0.1'"),
        (values_with(prune__model=[1]), r"config: prune.model: expected text, got \[1\]"),
        (values_with(prune__exclude="fc1"), "config: prune.exclude: expected a list, each of it text, got 'fc1'"),
        (values_with(prune__images="many"), "config: prune.images: expected a whole number or null, got 'many'"),
        (values_with(prune__labels="x" * 999), "labels: expected one of true, sampled"),
        (values_with(schedule__end_epoch=5), "epochs: expected at least 5, where the schedule ends, got 4"),
        (values_with(prune__pattern="2:4"), "pattern"),
        (values_with(prune__sample_indices=[1, 2]), "sample indices: a gradual run draws fresh samples"),
        ("text", "config: expected an object of fields, got 'text'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_does_not_belong_is_refused_by_name(values, message):
    with pytest.raises(InputError, match=message):
        parse_config("gradual", values)


def test_kinds():
    """Each kind is read by its own class; one that nobody knows is refused with those there are."""
    assert set(KINDS) == {"prune", "gradual"}
    assert parse_config("prune", SMALL.to_dict()) == SMALL
    with pytest.raises(InputError, match="config: expected a kind among prune, gradual, got 'sweep'"):
        parse_config("sweep", {})


@pytest.fixture(scope="module")
def finished():
    """(config, result) of a short run whose second epoch does not prune."""
    schedule = GradualSchedule(final=0.9, initial=0.5, end_epoch=3, frequency=2)
    return run_gradual(GradualConfig(prune=SMALL, schedule=schedule, epochs=4))


def test_a_run_comes_back_from_the_store(finished, tmp_path):
    """Every epoch, exactly; the headline is the last epoch's; the config in it is the run's own."""
    config, result = finished
    store = Store(tmp_path / "runs.sqlite")
    kept = store.get(store.save(gradual_record(config, result, 1.5, "test")))
    assert epochs_of(config, kept) == result.records
    assert kept.headline["accuracy"] == result.last.after.accuracy
    assert kept.headline["dense_accuracy"] == result.dense.accuracy
    assert kept.headline["sparsity"] == result.sparsity
    assert parse_config(kept.kind, kept.config) == config
    assert kept.key == config.key
    assert sum(row["kept"] for row in kept.layers) == int(result.keep.sum())
    assert sum(kept.seconds.values()) == 1.5


def test_metrics_of_a_run(finished):
    """Step 0 is the dense network; only epochs that prune have numbers before their training."""
    config, result = finished
    found = {(m.name, m.step): m for m in gradual_record(config, result, 1.0).metrics}
    assert found["accuracy", 0].value == result.dense.accuracy
    assert [step for name, step in found if name == "accuracy pruned"] == [1, 3]
    assert found["accuracy before", 3].value == result.records[1].after.accuracy
    assert found["accuracy before", 3].sparsity == pytest.approx(0.5, abs=1e-3)
    assert found["accuracy pruned", 3].sparsity == result.sparsity
    assert [found["training loss", step].value for step in (1, 2, 3, 4)] == [r.training_loss for r in result.records]


def test_epochs_as_json(finished):
    """Plain values that JSON gives back; what is not finite becomes null, as everywhere."""
    record = finished[1].records[0]
    values = epoch_values(record)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["pruned"] == {"accuracy": record.pruned.accuracy, "loss": record.pruned.loss}
    broken = dataclasses.replace(record, after=dataclasses.replace(record.after, loss=float("inf")))
    assert epoch_values(broken)["after"] == {"accuracy": record.after.accuracy, "loss": None}


def test_the_workspace_stays_as_it_is(finished):
    """A run on a shared workspace gives the same bits, and leaves its network frozen and unchanged."""
    config, result = finished
    space = Workspace()
    problem = space.problem(config.prune)
    weights = problem.weights.clone()
    _, again = run_gradual(config, space=space)
    assert again.records == result.records
    assert problem.parameters.flatten(problem.model.state_dict()).equal(weights.to(problem.device))
    assert not any(parameter.requires_grad for parameter in problem.model.parameters())
