"""Runs side by side: what differs, what a baseline makes of the numbers, what a filter leaves."""

import json
import math
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from samples import BASE, gradual, sample

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.store import Metric, RunRecord, Store, compare
from woodfisher_core.store.naming import schedule_words

KEYS = ("a1" * 32, "a1b2c3" + "0" * 58, "ff" * 32, "0" * 64)


@pytest.fixture
def table() -> pd.DataFrame:
    """Three finished runs and a failed one, as a store gives them."""
    common = {"kind": "prune", "origin": "", "seconds": 1.0, "dataset": "digits", "dense_accuracy": 97.0}
    rows = [
        (1, "woodfisher", "digits-mlp", "done", "", 0.8, 90.0, 0.5, 1e-3, "layer", [], None, True),
        (2, "magnitude", "digits-mlp", "done", "My Best", 0.7998, 92.5, 0.25, 1e-3, "100", ["fc1"], 200.0, True),
        (3, "woodfisher", "digits-cnn", "done", "", 0.5, 97.0, math.inf, 1e-1, "network", ["fc1", "fc2"], None, False),
        (4, "lamp", "digits-cnn", "failed", "", math.nan, math.nan, math.nan, 1e-1, "layer", [], None, True),
    ]
    names = ("id", "method", "model", "status", "label", "sparsity", "accuracy", "loss")
    settings = ("damping", "block_size", "exclude", "images", "fresh_samples")
    found = pd.DataFrame(rows, columns=[*names, *settings]).assign(**common)
    found["key"] = KEYS
    found["error"] = [None, None, None, "no inverse"]
    found["created"] = pd.Timestamp("2026-01-02", tz="UTC")
    found["solver"], found["data_dir"] = "auto", ["a", "b", "c", "d"]
    found["weights"], found["weights_hash"] = "shipped", ["m", "m", "c", "c"]
    found["data_hash"] = "d"
    return found


def ids(table: pd.DataFrame) -> list[int]:
    return table["id"].tolist()


def test_only_what_differs(table):
    """Settings that differ, lists and missing ones too; no results, no places, no hash that the network explains."""
    expected = {"model", "method", "damping", "block_size", "exclude", "images", "fresh_samples"}
    assert set(compare.differing(table)) == expected
    assert compare.differing(table.iloc[:1]) == []
    assert set(compare.differing(table.iloc[[0, 1]])) == {"method", "block_size", "exclude", "images"}


def test_other_weights_of_one_network_differ(table):
    """A hash is named where the network and its data do not tell it."""
    table.loc[1, "weights_hash"] = "retrained"
    assert "weights_hash" in compare.differing(table.iloc[:2])


def test_against_a_baseline(table):
    found = compare.against(table, 2)
    assert found["accuracy_difference"].tolist()[:2] == [-2.5, 0.0]
    assert found["loss_difference"].tolist()[:2] == [0.25, 0.0]
    assert found["sparsity_difference"].iloc[0] == pytest.approx(0.0002)
    assert found.filter(like="_difference").iloc[3].isna().all()
    assert "accuracy_difference" not in table, "the table given is left as it was"
    assert compare.against(table, 4).filter(like="_difference").isna().all(axis=None)
    with pytest.raises(InputError, match="baseline: expected the number of a run, got 9"):
        compare.against(table, 9)


@pytest.mark.parametrize("other", [{"model": "digits-cnn"}, {"dataset": "own-0123456789ab"}], ids=str)
def test_no_difference_over_another_network_or_other_data(table, other):
    """Which of them keeps more points says nothing."""
    differences = ["accuracy_difference", "loss_difference", "sparsity_difference"]
    table = table.iloc[:2].copy()
    assert compare.against(table, 2)[differences].notna().all(axis=None)
    table.loc[0, list(other)] = list(other.values())
    found = compare.against(table, 2)[differences]
    assert found.iloc[0].isna().all()
    assert (found.iloc[1] == 0).all()


def test_a_baseline_that_is_filtered_out(table):
    found = compare.against(table.iloc[:1], table.iloc[1])
    assert found["accuracy_difference"].tolist() == [-2.5]


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({}, [1, 2, 3, 4]),
        ({"models": ["digits-mlp"]}, [1, 2]),
        ({"methods": ["lamp", "woodfisher"]}, [1, 3, 4]),
        ({"statuses": ["failed"]}, [4]),
        ({"datasets": ["mnist"]}, []),
        ({"sparsity": (0.8, None)}, [1, 2]),
        ({"sparsity": (None, 0.5)}, [3]),
        ({"accuracy": (92.5, 95.0)}, [2]),
        ({"text": "best"}, [2]),
        ({"text": ".*"}, []),
        ({"text": "woodfisher"}, [1, 3]),
        ({"text": "obs), 80 %"}, [1]),
        ({"text": "magnitude"}, []),  # it is called otherwise
        ({"models": ["digits-mlp"], "text": "BEST", "sparsity": (0.0, 1.0)}, [2]),
    ],
    ids=str,
)
def test_filters(table, asked, left):
    assert ids(compare.filtered(table, **asked)) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("damping<1e-2", [1, 2]),
        ("damping>=0.1", [3, 4]),
        ("damping = 0.001", [1, 2]),
        ("damping==1E-3", [1, 2]),
        ("block_size=layer", [1, 4]),
        ("block_size!=layer", [2, 3]),
        ("block_size=100", [2]),
        ("block_size<=100", [2]),
        ("images=none", [1, 3, 4]),
        ("images=200", [2]),
        ("images!=none", [2]),
        ("images>0", [2]),
        ("exclude=fc1", [2]),
        ("exclude=fc1, fc2", [3]),
        ("exclude=none", [1, 4]),
        ("fresh_samples=False", [3]),
        ("fresh_samples>0", []),
        ("accuracy>95", [3]),
        ("label=my best", [2]),
    ],
)
def test_conditions(table, text, left):
    assert ids(compare.filtered(table, conditions=[compare.parse_condition(text)])) == left


@pytest.mark.parametrize(
    "text", ["", "damping", "damping<", "damping<layer", "<3", "damping ~ 3", "__import__('os')", "a<1<nan"]
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(InputError, match=r"^where: "):
        compare.parse_condition(text)


def test_an_unknown_field_is_named(table):
    with pytest.raises(InputError, match="no run has a field 'dampng'; expected one of accuracy, block_size"):
        compare.filtered(table, conditions=[compare.parse_condition("dampng=1")])


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), ("#3", 3), ("a1a1a1", 1), ("A1B2C3", 2), ("000000", 4), ("f" * 64, 3)]
)
def test_a_run_by_number_or_key(table, text, number):
    assert compare.find(table, text) == number


@pytest.mark.parametrize("text", ["9", "a1", "", "zz", "a1b2c4", "-1", "f" * 65])
def test_no_such_run(table, text):
    with pytest.raises(InputError, match="run: expected the number of a run or at least 6 digits of its key"):
        compare.find(table, text)


def test_two_keys_that_begin_alike(table):
    table["key"] = ["abcdef" + str(i) * 58 for i in range(4)]
    with pytest.raises(InputError, match="4 keys begin with abcdef"):
        compare.find(table, "abcdef")


def test_names(table):
    names = [compare.name_of(run) for _, run in table.iterrows()]
    assert names == ["#1 WoodFisher (OBS), 80\u00a0%", "My Best", "#3 WoodFisher (OBS), 50\u00a0%", "#4 LAMP"]
    assert compare.name_of(table.iloc[0], numbered=False) == "WoodFisher (OBS), 80\u00a0%"


def test_the_schedule_is_part_of_the_name(file_store):
    """One-shot, staged and gradual runs of one method to one sparsity have names of their own, with the settings or without."""
    once = {"sparsity": 0.8, "accuracy": 90.0}
    file_store.save(sample(0, headline=once))
    for seed, records in enumerate((BASE.replace(stages=3), gradual(0), gradual(1, steps=1))):
        staged = isinstance(records, PruneConfig)
        file_store.save(sample(seed, key=records.key, config=records.to_dict(), headline=once) if staged else records)
    common = "WoodFisher (OBS), 80\u00a0%"
    expected = [common, f"{common}, 3 stages", f"{common}, 2 steps, 3 epochs", f"{common}, 1 step, 3 epochs"]
    for configurations in (True, False):
        table = file_store.runs(configurations=configurations)
        names = {int(run["id"]): compare.name_of(run, numbered=False) for _, run in table.iterrows()}
        assert [names[number] for number in sorted(names)] == expected
    assert ids(compare.filtered(table, text="2 steps")) == [3]
    assert "schedule" not in compare.settings_of(table)


@pytest.mark.parametrize(
    "config", [{}, {"schedule": 3, "epochs": 2}, {"schedule": {"later": 1}, "epochs": 2}, {"schedule": {"final": 2.0}}]
)
def test_a_gradual_run_of_another_version(config):
    """What its schedule says is not understood; that it was gradual is."""
    assert schedule_words(None, json.dumps(config)) == "gradual"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "none"), (math.nan, "none"), ([], "none"), (True, "true"), (np.bool_(False), "false")),
        *((1e-3, "0.001"), (200.0, "200"), (np.int64(7), "7"), (["fc1", "fc2"], "fc1, fc2"), ("layer", "layer")),
    ],
)
def test_settings_in_words(value, text):
    assert compare.written(value) == text


def test_curves_and_layers(table):
    """Points in their order whatever the order of the rows, the run's own apart; NaN left out; the runs as they are given."""
    points = [(1, "accuracy", 0, 0.8, 90.0), (1, "accuracy", 2, 0.9, 70.0), (1, "accuracy", 1, 0.5, 95.0)]
    points += [(1, "loss", 1, 0.5, 0.1), (2, "accuracy", 0, 0.8, 92.5), (3, "accuracy", 1, 0.5, math.nan)]
    metrics = pd.DataFrame(points, columns=["run", "name", "step", "sparsity", "value"])
    found = compare.curve_table(table.iloc[[1, 0, 2]], metrics)
    assert found["run"].tolist() == [2, 1, 1, 1]
    assert found["accuracy"].tolist() == [92.5, 90.0, 95.0, 70.0]
    assert found["own"].tolist() == [True, True, False, False]
    assert not found["gradual"].any()
    rows = [
        (1, 1, "fc2", "2×2", 1, 4),
        (1, 0, "fc1", "2×2", 2, 4),
        (2, 0, "fc1.weight", "2×2", 4, 4),
    ]  # the last one is older
    layers = pd.DataFrame(rows, columns=["run", "position", "layer", "shape", "kept", "total"])
    found = compare.layers_table(table.iloc[[1, 0]], layers)
    assert found["method"].tolist() == ["magnitude", "woodfisher", "woodfisher"]
    assert found[["run", "layer", "sparsity"]].values.tolist() == [[2, "fc1", 0.0], [1, "fc1", 0.5], [1, "fc2", 0.75]]


def test_the_curve_of_a_gradual_run(file_store):
    """From the dense network through its epochs; its own result is the last one's, not the dense network's."""
    file_store.save(gradual(0))
    found = compare.curve_table(file_store.runs(configurations=False), file_store.metrics())
    assert found["gradual"].all()
    own, curve = found[found["own"]], found[~found["own"]]
    assert own[["sparsity", "accuracy"]].values.tolist() == [[0.8, 93.0]]
    assert curve[["sparsity", "accuracy"]].values.tolist() == [[0.0, 97.5], [0.2, 97.0], [0.8, 91.0], [0.8, 93.0]]


def test_with_a_real_store(tmp_path):
    """What a store gives is what these functions take, an empty one too."""
    store = Store(tmp_path / "runs.sqlite")
    assert compare.differing(store.runs()) == []
    assert compare.filtered(store.runs(), text="x", conditions=[compare.parse_condition("damping<1")]).empty
    for i, damping in enumerate((1e-3, 1e-2)):
        store.save(
            RunRecord(
                kind="prune",
                key=KEYS[i],
                config={"damping": damping, "exclude": [], "group": {"inner": damping}},
                about={"model": "digits-mlp", "dataset": "digits", "method": "woodfisher"},
                headline={"sparsity": 0.5, "accuracy": 90.0 + i, "loss": 0.1},
                metrics=(Metric("accuracy", 90.0 + i, 0.5),),
            )
        )
    table = store.runs()
    assert compare.differing(table) == ["damping", "group.inner"]
    assert ids(compare.filtered(table, conditions=[compare.parse_condition("group.inner<0.005")])) == [1]
    assert compare.against(table, 1)["accuracy_difference"].tolist() == [1.0, 0.0]
    assert compare.curve_table(table, store.metrics())["accuracy"].tolist() == [91.0, 90.0]


@pytest.mark.parametrize(("text", "left"), [("sparsity=0.8", [1]), ("sparsity!=0.8", [2]), ("sparsity>0.8", [1])])
def test_a_sparsity_is_the_one_asked_for(tmp_path, text, left):
    """Runs reach it to a weight or so; comparisons in size are with what was reached."""
    with closing(Store(tmp_path / "runs.sqlite")) as store:
        for asked in (0.8, 0.5):
            config = PruneConfig(model="digits-mlp", method="magnitude", sparsity=asked)
            about = {"model": config.model, "dataset": config.dataset, "method": config.method}
            reached = {"sparsity": asked + 0.0004}
            store.save(RunRecord(kind="prune", key=config.key, config=config.to_dict(), about=about, headline=reached))
        assert ids(compare.filtered(store.runs(), conditions=[compare.parse_condition(text)])) == left
