"""The store's own words: what is saved comes back, on SQLite and on PostgreSQL."""

import math

import pandas as pd
import pytest
from samples import BASE, LAYERS, METRICS, failed, gradual, sample

from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.store import Metric, Store, compare
from woodfisher_core.store.records import GRADUAL
from woodfisher_core.store.store import flat


def test_a_run_comes_back_whole(place):
    """From another connection, field by field; its key finds it."""
    first = Store(place)
    number = first.save(sample(3, label="mine", artefacts={"weights": {"sha256": "ab" * 32, "bytes": 2**40}}))
    first.close()
    store = Store(place)
    assert store.get(number) == sample(3, label="mine", artefacts={"weights": {"sha256": "ab" * 32, "bytes": 2**40}})
    assert store.find(sample(3).key) == number
    assert store.find(sample(4).key) is None
    assert store.keys([sample(i).key for i in range(2000)]) == {sample(3).key: number}
    store.close()


def test_numbers_keep_every_bit(store):
    """The smallest and the largest floats, π, infinities; NaN is NaN again."""
    values = [math.pi, 5e-324, 1.7976931348623157e308, -0.1, math.inf, -math.inf, 0.1 + 0.2]
    metrics = tuple(Metric("loss", value, value, step) for step, value in enumerate(values))
    store.save(sample(0, metrics=(*metrics, Metric("nan", math.nan, math.nan, 0)), headline={"loss": math.nan}))
    found = store.get(1)
    assert found.metrics[:-1] == metrics
    assert math.isnan(found.metrics[-1].value)
    assert math.isnan(found.metrics[-1].sparsity)
    assert found.headline["loss"] is None
    assert store.runs()["loss"].isna().all()


def test_what_is_not_text_or_number_elsewhere_is_made_so(store):
    """A zero character, half a character, NaN within JSON, numpy's numbers."""
    import numpy as np

    layer = {"layer": "a\0b", "shape": "1", "kept": np.int64(1), "total": np.int64(2)}
    metric = Metric("loss", np.float32(0.5), np.float64(0.25), np.int64(1))
    odd = sample(
        0, label="a\udcffb", layers=(layer,), metrics=(metric,), environment={"gigaflops": math.nan, "a": [1.5]}
    )
    found = store.get(store.save(odd))
    assert found.label == "a?b"
    assert found.layers == ({"layer": "a\ufffdb", "shape": "1", "kept": 1, "total": 2},)
    assert found.metrics == (Metric("loss", 0.5, 0.25, 1),)
    assert found.environment == {"gigaflops": None, "a": [1.5]}
    store.rename(1, "c\0")
    assert store.get(1).label == "c\ufffd"


def test_equal_configs_are_one_run(store):
    """Saved again it keeps its number and its first numbers; a failed one makes room and keeps its number and label."""
    number = store.save(failed(0))
    store.rename(number, "the one")
    assert store.find(sample(0).key) is None
    assert store.get(number).error == "it broke"
    assert store.save(failed(0, "again")) == number
    assert store.get(number).error == "again"
    assert store.save(sample(0)) == number
    assert store.get(number) == sample(0, label="the one")
    assert store.save(failed(0)) == number
    assert store.save(sample(0, headline={"loss": 9.0})) == number
    assert store.get(number) == sample(0, label="the one")
    assert len(store.runs()) == 1


def test_delete_restore_purge(store):
    """Deleted runs leave the lists until they are restored, saved again, or purged with all that is theirs."""
    numbers = [store.save(sample(i)) for i in range(3)]
    store.delete(numbers[:2])
    assert list(store.runs()["seed"]) == [2]
    assert sorted(store.runs(deleted=True)["seed"]) == [0, 1]
    assert store.find(sample(0).key) is None
    store.restore(numbers[:1])
    assert store.find(sample(0).key) == numbers[0]
    assert store.save(sample(1)) == numbers[1]
    store.delete(numbers[:2])
    assert store.purge() == 2
    assert len(store.metrics()) == METRICS
    assert len(store.layers()) == LAYERS
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM configs").scalar() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM environments").scalar() == 1
    with pytest.raises(InputError, match=f"got {numbers[0]}"):
        store.get(numbers[0])


def test_tables(store):
    """Columns and types of the frames, with rows and without."""
    empty = {"runs": store.runs(), "metrics": store.metrics(), "none": store.metrics([])}
    for i in range(70):
        store.save(sample(i) if i % 7 else failed(i))
    table = store.runs()
    assert list(table["id"]) == sorted(table["id"], reverse=True)
    assert {"num_samples", "damping", "test_images", "exclude"} <= set(table)
    assert list(empty["runs"]) == [name for name in table if name in set(empty["runs"])]
    assert table["accuracy"].dtype == empty["runs"]["accuracy"].dtype == "float64"
    assert list(empty["metrics"]) == list(empty["none"]) == ["run", "name", "step", "sparsity", "value"]
    assert str(table["created"].dt.tz) == "UTC"
    assert (pd.Timestamp.now("UTC") - table["created"]).abs().max() < pd.Timedelta("1h")
    assert (table.loc[table["status"] == "failed", "accuracy"].isna()).all()
    assert len(store.metrics(range(1000))) == 60 * METRICS == len(store.metrics())
    assert set(store.timings([1])["phase"]) == {"gradients", "evaluate", "plan"}
    assert (
        list(store.runs(configurations=False)) == list(empty["runs"])[: len(store.runs(configurations=False).columns)]
    )


def test_configs_with_groups_are_flattened(store):
    """A group's fields come with its name before them; a run that lacks them has none."""
    nested = {"prune": BASE.to_dict(), "epochs": 3, "schedule": {"final": 0.9, "steps": [1, 2]}}
    store.save(sample(0))
    store.save(sample(1, kind="gradual", key="0" * 64, config=nested))
    table = store.runs()
    assert list(table["epochs"].isna()) == [False, True]
    assert table["schedule.steps"].iloc[0] == [1, 2]
    assert flat(nested)["prune.method"] == "woodfisher"


def test_a_gradual_run_has_the_fields_of_the_others(store):
    """Under the same names; what only it has keeps its group's name."""
    store.save(sample(1))
    alone = set(store.runs())
    store.save(gradual(1))
    table = store.runs()
    assert {name.split(".")[0] for name in set(table) - alone} == {"epochs", "schedule", "tuning"}
    assert table["damping"].tolist() == [BASE.damping] * 2
    assert table["seed"].tolist() == [1, 1]
    assert table["asked_sparsity"].tolist() == [0.8, BASE.sparsity]
    # Nothing is held out for it; it says the usual number there.
    assert {name.split(".")[0] for name in compare.differing(table)} == {"epochs", "schedule", "tuning", "held_out"}
    found = compare.filtered(table, conditions=[compare.parse_condition(f"damping={BASE.damping}")])
    assert found["kind"].tolist() == [GRADUAL, "prune"]
    assert GradualConfig.kind == GRADUAL


def test_a_transaction_is_whole_or_not_at_all(store):
    """An error within takes back what was written before it."""
    from woodfisher_core.store.store import insert_run

    def interrupted() -> None:
        with store.writing() as connection:
            insert_run(connection, sample(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    twice = sample(1, metrics=(Metric("loss", 1.0, 0.5), Metric("loss", 2.0, 0.5)))
    with pytest.raises(StoreError):
        store.save(twice)
    assert len(store.runs()) == 0
    assert store.save(sample(1)) > 0


def test_damaged_json_is_said(file_store):
    """A config that is no JSON is a damaged store, not a bug."""
    file_store.save(sample(0))
    with file_store.writing() as connection:
        connection.exec_driver_sql("UPDATE configs SET config='{'")
    for read in (file_store.runs, lambda: file_store.get(1)):
        with pytest.raises(StoreError, match="is damaged"):
            read()
