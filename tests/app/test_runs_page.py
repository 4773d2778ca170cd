"""The Runs page, keeping results from the other pages, the baseline, and the way from a run back to Explore's controls."""

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.linking import link_of, lost_sentence
from app.shared import store, workspace
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.comparison import layer_wise_or_global
from woodfisher_core.experiments.remember import failed_record, record_of
from woodfisher_core.methods import METHODS
from woodfisher_core.store import Store
from woodfisher_core.store.exchange import export_runs

RUNS, EXPLORE, COMPARE = "app_pages/runs.py", "app_pages/explore.py", "app_pages/compare.py"
SMALL = {"model": "digits-mlp", "samples": "100"}
# The sparsities of Explore's curve.
CURVE = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


@pytest.fixture(scope="module")
def records():
    """Three runs, the first two with a curve, of two networks; a failed one."""
    space = Workspace()
    config = PruneConfig(model="digits-mlp", num_samples=50, held_out=0, sparsity=0.8)
    configs = [
        config,
        config.replace(method="magnitude", update=None),
        config.replace(model="digits-cnn", damping=0.01),
    ]
    made = [
        record_of(
            space.report(one), origin="test", curve=space.curve(one, (0.5, 0.9)) if one.model == "digits-mlp" else ()
        )
        for one in configs
    ]
    return (
        *made,
        failed_record(space.resolve(config.replace(damping=1e-9, sparsity=0.5)), ArithmeticError("no inverse there")),
    )


@pytest.fixture
def filled(records) -> Store:
    """The store of this test with them as runs 1 to 4."""
    for record in records:
        store().save(record)
    return store()


def fine(page: AppTest) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    return page


def texts(page: AppTest) -> str:
    kinds = (page.markdown, page.caption, page.info, page.warning, page.error, page.success)
    return " ".join(element.value for kind in kinds for element in kind).replace("\u00a0", " ")


def table(page: AppTest):
    return page.dataframe[0].value


def tick(page: AppTest, *rows: int) -> AppTest:
    """Ticks these rows of the table, the newest run being 0."""
    page.session_state[page.dataframe[0].key] = {"selection": {"rows": list(rows), "columns": [], "cells": []}}
    return fine(page.run())


def labels(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def click(page: AppTest, key: str) -> AppTest:
    return fine(page.button(key=key).click().run())


def metric(page: AppTest, label: str) -> str:
    return next(m.value for m in page.metric if m.label == label)


def test_an_empty_store_says_how_a_run_comes_here(opened):
    page = fine(opened(RUNS))
    assert "No runs yet. A run is one result" in texts(page)
    assert not page.dataframe
    assert [link.label for link in page.page_link] == ["Go to Explore"]


def test_runs_are_listed_the_newest_first(opened, filled):
    """With only the settings that differ; a failed run with its error."""
    page = fine(opened(RUNS))
    found = table(page)
    assert found["run"].tolist() == [4, 3, 2, 1]
    assert found["name"].tolist()[1:3] == ["WoodFisher (OBS), 80\u00a0%", "Magnitude, 80\u00a0%"]
    assert found["accuracy"].tolist()[1:] == [filled.get(i).headline["accuracy"] for i in (3, 2, 1)]
    assert "no inverse there" in found["error"].iloc[0]
    assert {"model", "method", "damping", "update"} <= set(found.columns)
    assert not {"num samples", "num_samples", "seed", "weights_hash"} & set(found.columns)
    every = table(fine(page.toggle(key="runs-all").set_value(True).run()))
    assert {"num_samples", "seed", "exclude", "key"} <= set(every.columns)
    assert "Up to date." in texts(page)


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ({"runs-model": "digits-cnn"}, [3]),
        ({"runs-method": "magnitude"}, [2]),
        ({"runs-status": "failed"}, [4]),
        ({"runs-name": "BEST"}, [1]),
        ({"runs-name": "woodfisher (obs), 80 %"}, [3]),  # as it stands in the table; run 1 is called otherwise
        ({"runs-sparsity": ["0.7", "0.9"]}, [3, 2, 1]),
        ({"runs-sparsity": ["0.1", "0.2"]}, []),
    ],
    ids=str,
)
def test_filters_come_from_the_link(opened, filled, query, left):
    filled.rename(1, "my best")
    page = fine(opened(RUNS, **query))
    assert (table(page)["run"].tolist() if page.dataframe else []) == left
    assert f"{len(left)} of 4 runs." in texts(page)
    assert ("No run matches" in texts(page)) == (not left)


def test_the_baseline_is_pinned_and_let_go(opened, filled):
    """Differences are signed columns, the link names it, and it stays on the next page."""
    page = tick(opened(RUNS), 2)
    click(page, "pin")
    key = filled.get(2).key
    assert page.query_params["baseline"] in (key[:12], [key[:12]])
    found, accuracy = table(page), filled.get(2).headline["accuracy"]
    expected = [filled.get(i).headline["accuracy"] - accuracy for i in (2, 1)]
    assert found["accuracy_difference"].tolist()[2:] == expected
    assert found.filter(like="_difference").iloc[1].isna().all(), "another network"
    assert {"loss_difference", "sparsity_difference"} <= set(found.columns)
    assert "Baseline **#2 Magnitude, 80 %**" in texts(page)
    click(page, "unpin")
    assert "baseline" not in page.query_params
    assert "accuracy_difference" not in table(page)


def test_a_link_names_the_baseline(opened, filled):
    key = filled.get(1).key
    assert "Baseline **#1 WoodFisher" in texts(fine(opened(RUNS, baseline=key[:12])))
    for wrong in ("0" * 12, key[:6], "%", "zz' or 1=1"):
        page = fine(opened(RUNS, baseline=wrong))
        assert "is not among the runs here" in texts(page)
        assert "accuracy_difference" not in table(page)


def test_one_run_is_opened_renamed_deleted_and_brought_back(opened, filled):
    page = tick(opened(RUNS), 3)
    assert {"Open in Explore"} == {link.label for link in page.page_link}
    assert len(page.get("plotly_chart")) == 2
    page.text_input(key="label-1").set_value(" the first ")
    next(button for button in page.button if button.label == "Save the name").click()
    fine(page.run())
    assert filled.get(1).label == "the first"
    assert table(page)["name"].iloc[3] == "the first"
    click(tick(page, 3), "delete")
    assert table(page)["run"].tolist() == [4, 3, 2]
    assert "1 run deleted." in texts(page)
    click(page, "undo")
    assert table(page)["run"].tolist() == [4, 3, 2, 1]
    assert "Undo" not in labels(page)


def test_several_are_deleted_and_restored_later(opened, filled):
    """Also by who comes back another day, when the offer to undo is gone."""
    page = tick(opened(RUNS), 0, 1)
    click(page, "delete")
    assert table(page)["run"].tolist() == [2, 1]
    later = fine(opened(RUNS))
    assert "Undo" not in labels(later)
    fine(later.multiselect(key="deleted-runs").set_value([3]).run())
    click(later, "restore")
    assert table(later)["run"].tolist() == [3, 2, 1]


def test_the_last_run_deleted(opened, filled):
    """The empty page still offers the way back."""
    page = tick(opened(RUNS), 0, 1, 2, 3)
    click(page, "delete")
    assert "No runs yet" in texts(page)
    click(page, "undo")
    assert len(table(page)) == 4


def test_runs_side_by_side(opened, filled):
    page = tick(opened(RUNS), 1, 2, 3)
    assert len(page.get("plotly_chart")) == 2
    beside = page.table[0].value
    assert list(beside.columns) == [
        "#3 WoodFisher (OBS), 80\u00a0%",
        "#2 Magnitude, 80\u00a0%",
        "#1 WoodFisher (OBS), 80\u00a0%",
    ]
    assert set(beside.index) == {"accuracy", "loss", "sparsity", "model", "method", "damping", "update"}
    assert "No curve was kept with #3" in texts(page)


def test_a_failed_run_shows_its_error(opened, filled):
    page = tick(opened(RUNS), 0)
    assert [error.value for error in page.error] == ["ArithmeticError: no inverse there"]
    assert not page.get("plotly_chart")


def test_more_than_can_be_drawn(opened, filled, records):
    for seed in range(1, 4):
        config = PruneConfig.from_dict(records[1].config).replace(seed=seed)
        filled.save(failed_record(config, ValueError("x")))
    page = tick(opened(RUNS), *range(6))
    assert "Tick at most 5" in texts(page)
    assert not page.get("plotly_chart")


def test_an_export_is_imported(opened, filled, tmp_path, monkeypatch):
    """What the download gives, another user's store takes; a wrong file is refused in a sentence."""
    page = fine(opened(RUNS))
    assert page.get("download_button")[0].proto.label == "Download 4 runs"
    export_runs(filled, tmp_path / "export.zip")
    monkeypatch.setenv("WOODFISHER_STORE", str(tmp_path / "other.sqlite"))
    other = fine(opened(RUNS))

    def upload(name: str, content: bytes) -> AppTest:
        other.file_uploader(key="import-file").upload(name, content, "application/zip")
        next(button for button in other.button if button.label == "Import").click()
        return fine(other.run())

    refused = upload("wrong.zip", b"no zip at all").error[0].value
    assert "import" in refused.lower()
    assert "wrong.zip" in refused
    upload("export.zip", Path(tmp_path / "export.zip").read_bytes())
    assert "4 runs imported." in texts(other)
    assert sorted(table(other)["run"]) == [1, 2, 3, 4]


@pytest.mark.parametrize("page_file", [RUNS, EXPLORE])
def test_a_store_that_cannot_be_opened_is_said(opened, tmp_path, monkeypatch, page_file):
    """Runs says why; Explore works, and says that nothing can be kept."""
    (tmp_path / "notes.txt").write_text("no database here, only words")
    monkeypatch.setenv("WOODFISHER_STORE", str(tmp_path / "notes.txt"))
    page = fine(opened(page_file, **({} if page_file == RUNS else SMALL)))
    assert "is no SQLite file" in texts(page)
    assert bool(page.error) == (page_file == RUNS)
    assert (tmp_path / "notes.txt").read_text() == "no database here, only words"


def test_explore_keeps_a_run_with_its_curve(opened):
    page = opened(**SMALL)
    click(page, "keep")
    config = PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=100, solver="spectral")
    record = store().get(1)
    assert record.key == workspace().resolve(config).key
    assert record.origin == "explore"
    curve = [m for m in record.metrics if m.name == "accuracy" and m.step > 0]
    expected = [(p.removed, p.accuracy) for p in workspace().curve(config, CURVE)]
    assert [(m.sparsity, m.value) for m in curve] == expected
    assert "Kept as run 1." in texts(page)
    assert "Keep this run" not in labels(page)
    fine(page.slider(key="sparsity").set_value(0.9).run())
    assert "Keep this run" in labels(page)
    assert "Kept as run" not in texts(page)


def test_a_pattern_is_kept_without_a_curve(opened):
    page = opened(model="digits-mlp", samples="100", pattern="2:4")
    click(page, "keep")
    assert {m.step for m in store().get(1).metrics} == {0}


def test_explore_against_the_baseline(opened, filled):
    """Signed differences, and one more line in the chart; nothing where the networks differ."""
    key, accuracy = filled.get(2).key, filled.get(2).headline["accuracy"]
    traces = lambda page: page.get("plotly_chart")[0].proto.spec.count('"type":"scatter"')  # noqa: E731
    plain, against = fine(opened(**SMALL)), fine(opened(baseline=key[:12], **SMALL))
    mine = float(metric(against, "Accuracy").split("\u00a0")[0])
    assert float(metric(against, "Accuracy over it")) == pytest.approx(mine - accuracy, abs=0.011)
    assert traces(against) == traces(plain) + 2
    other = fine(opened(baseline=filled.get(3).key[:12], **SMALL))
    assert "not compared" in texts(other)
    assert traces(other) == traces(plain)


def test_the_baseline_in_focus(opened):
    page = opened(**SMALL)
    click(page, "keep")
    again = fine(opened(baseline=store().get(1).key[:12], **SMALL))
    assert "This is the baseline" in texts(again)


def test_compare_keeps_its_lines(opened):
    """A run a line, each with the curve that is drawn."""
    page = fine(opened(COMPARE, damping="1e0", view="layer-wise or global", **SMALL))
    assert "Keep 4 lines as runs" in labels(page)
    click(page, "keep")
    kept = store().runs()
    assert sorted(kept["method"]) == ["l-obs", "magnitude", "woodfisher", "woodfisher"]
    assert set(kept["origin"]) == {"compare"}
    assert "4 of 4 lines are kept." in texts(page)
    config = PruneConfig(model="digits-mlp", num_samples=100, damping=1.0, solver="spectral")
    line = layer_wise_or_global(config)[0].config
    metrics = store().metrics([int(kept.loc[kept["method"] == "l-obs", "id"].iloc[0])])
    curve = metrics[(metrics["name"] == "accuracy") & (metrics["step"] > 0)]["value"]
    drawn = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
    assert curve.tolist() == [point.accuracy for point in Workspace().curve(line, drawn)]


BASE = {"model": "digits-cnn", "num_samples": 100, "sparsity": 0.7, "damping": 1.0, "solver": "spectral"}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model": "digits-mlp", "method": "magnitude", "sparsity": 0.0},
        {"method": "diagonal-fisher", "seed": 2**32 - 1, "update": "joint", "labels": "sampled"},
        {"update_scale": 0.85, "block_size": 50, "scope": "layer", "damping": 3e-4},
        {"damping_scale": "relative", "damping": 1e2, "images": 200, "block_size": "network"},
        {"pattern": "2:4", "sparsity": None, "exclude": ("conv1",)},
        {"exclude": ("fc", "conv1"), "budget": "flops", "flops_power": 0.3, "batchnorm_images": 100},
        {"stages": 2, "stage_shape": "linear", "sparsity": 0.58, "test_images": 200},
    ],
    ids=str,
)
def test_from_a_run_to_explore_and_back(opened, change):
    """The link sets every control so that Explore shows the run of the very same key."""
    config = workspace().resolve(PruneConfig(**{**BASE, **change}))
    query, lost = link_of(config)
    assert lost == {}
    assert lost_sentence(lost) == ""
    page = fine(opened(**query))
    assert not page.error
    shown = next(c.value for c in page.caption if re.match(r"run [0-9a-f]{12} ", c.value))
    assert shown.split()[1] == config.key[:12]


def test_what_explore_cannot_show_is_said():
    """Each such field with its value and the one that stands for it; those the controls have are not named."""
    config = PruneConfig(
        model="digits-mlp",
        sparsity=0.954,
        damping=2e-3,
        num_samples=137,
        mini_batch=2,
        exclude=("fc1.weight",),
        held_out=7,
        stages=3,
        stage_shape="linear",
    )
    query, lost = link_of(config)
    assert lost == {
        "sparsity": (0.954, 0.95),
        "damping": (2e-3, 3e-3),
        "num_samples": (137, 100),
        "stages": (3, 2),
        "exclude": (["fc1.weight"], ["fc1"]),
        "mini_batch": (2, 1),
        "held_out": (7, 1000),
        "solver": ("auto", "spectral"),
    }
    assert query["without"] == ["fc1"]
    words = lost_sentence(lost)
    assert "num samples 100 in place of 137" in words
    assert "held out 1000 in place of 7" in words
    assert "seed" not in words


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_link(method):
    """The link names what the sidebar offers."""
    query, lost = link_of(PruneConfig(model="digits-mlp", method=method, sparsity=0.5, solver="spectral"))
    assert query["method"] == method
    assert lost == {}
