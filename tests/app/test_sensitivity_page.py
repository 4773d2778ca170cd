"""The Sensitivity page through Streamlit's own test runner."""

import pytest
from streamlit.testing.v1 import AppTest

import app.asking
import app.jobs
import woodfisher_core.jobs.task
from app.shared import store, workspace
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.plane import Plane, plane
from woodfisher_core.jobs import JobStatus, StoreQueue
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.options import Axis
from woodfisher_core.store.owners import this_owner

CHARTS = 3
PAGE = "app_pages/sensitivity.py"
DAMPINGS = tuple(10.0**power for power in range(-7, 1))


def setting(**changes) -> PruneConfig:
    """The page's own default run."""
    values = {"model": "digits-mlp", "sparsity": 0.8, "num_samples": 100, "solver": "spectral"}
    return PruneConfig(**{**values, **changes})


def check_fine(page: AppTest, charts: int = CHARTS) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == charts
    return page


def said(page: AppTest, start: str) -> bool:
    return any(element.value.startswith(start) for element in (*page.caption, *page.markdown, *page.info))


def labels(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def test_default_view_explains_itself(opened):
    """Three charts, each with a sentence, no error; the sentence counts all cells of the plane."""
    page = check_fine(opened(PAGE, samples="200"))
    assert said(page, "Of 48 settings, ")
    assert said(page, "Drag the slider: with N = 200")
    assert said(page, "Up to date.")
    assert "Keep these 48 settings as runs" in labels(page)


@pytest.mark.parametrize("measure", ["overlap", "rank correlation", "predicted loss", "measured loss"])
def test_every_measure(opened, measure):
    check_fine(opened(PAGE, measure=measure, sparsity="0.9", update="joint", samples="200"))


@pytest.mark.parametrize(
    ("vary", "fixed", "columns", "cells"),
    [
        ("samples", "Fixed: block size layer, single images", ["20", "50", "100", "200", "500", "1,000"], 48),
        ("block", "Fixed: the same N = 100 images", ["1", "10", "100", "1,000", "layer", "network"], 48),
        ("mini-batch", "Fixed: N = 100 gradient rows, block size layer", ["1", "2", "5", "10"], 32),
    ],
)
@pytest.mark.parametrize("scale", ["absolute", "relative"])
def test_every_axis(opened, vary, fixed, columns, cells, scale):
    """Each axis, with either damping, draws its own columns and says what is held fixed; the left's setting is outlined."""
    page = check_fine(opened(PAGE, vary=vary, samples="100", **{"damping-scale": scale}))
    assert said(page, fixed)
    assert said(page, f"Of {cells} settings, ")
    assert any("Outlined: your setting." in caption.value for caption in page.caption)
    figure = page.get("plotly_chart")[1].proto.spec
    assert all(f'"{column}"' in figure for column in columns)
    assert ("mean F" in page.get("plotly_chart")[2].proto.spec) == (scale == "relative")
    assert len(page.dataframe[0].value) == cells


def test_a_mini_batch_that_does_not_fit_is_said(opened):
    """With as many rows as half the training images only single images are left."""
    page = check_fine(opened(PAGE, vary="mini-batch", samples="1000"))
    assert said(page, "Only m = 1 fits: N = 1,000 rows of two images are more than the 1,297 there are.")
    assert said(page, "Of 8 settings, ")


def test_losses_say_on_how_many_images(opened):
    page = check_fine(opened(PAGE, samples="100", measure="measured loss"))
    text = next(caption.value for caption in page.caption if caption.value.startswith("Fixed"))
    assert "1,000 of them, but only 297 in the column that uses most" in text


def test_the_table_holds_the_numbers_of_the_runs(opened):
    """A cell of the table is the accuracy of that very run."""
    page = opened(PAGE)
    table = page.dataframe[0].value
    row = table[(table["num_samples"] == 100) & (table["damping"] == 1e-3)].iloc[0]
    assert row["accuracy"] == workspace().evaluation(setting()).accuracy


@pytest.fixture
def partly_filled():
    """17 of the 48 settings of the plane of blocks are kept, as after a stop."""

    def stop(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("plane", 17):
            raise KeyboardInterrupt

    wanted = Plane(setting(), Axis.BLOCK, (1, 10, 100, 1000, "layer", "network"), DAMPINGS)
    with pytest.raises(KeyboardInterrupt):
        plane(workspace(), wanted, stop)
    return wanted


def test_a_stopped_plane_is_drawn_and_goes_on(opened, partly_filled):
    """After a stop the page draws what there is, says how much, runs nothing, and goes on at a click."""
    page = opened(stopped=partly_filled, page_file=PAGE, vary="block", samples="100")
    check_fine(page)
    assert said(page, "**17 of 48 settings computed.**")
    assert said(page, "17 of 48 settings computed, the others are blank. Of those computed, ")
    assert said(page, "Not everything below is computed yet.")
    assert len(page.dataframe[0].value) == 17
    assert "Continue" in labels(page)
    assert "Keep these 48 settings as runs" not in labels(page)
    page.run()
    assert len(page.dataframe[0].value) == 17
    page.button(key="go-on").click().run()
    check_fine(page)
    assert said(page, "Of 48 settings, ")
    assert said(page, "Up to date.")
    assert "Keep these 48 settings as runs" in labels(page)


def test_stopping_one_plane_leaves_the_others(opened, partly_filled):
    """Another axis fills by itself; going back the first is still stopped, with the column both have (m = 1, B = layer)."""
    page = opened(stopped=partly_filled, page_file=PAGE, vary="block", samples="100")
    page.segmented_control(key="vary").set_value("mini-batch").run()
    check_fine(page)
    assert said(page, "Of 32 settings, ")
    page.segmented_control(key="vary").set_value("block").run()
    check_fine(page)
    assert said(page, "**25 of 48 settings computed.**")


@pytest.fixture
def impatient(monkeypatch):
    """Whatever costs anything counts as long, and no worker starts by itself."""
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(app.jobs, "ensure_worker", lambda store: None)


def job_button(page: AppTest):
    return next(button for button in page.button if button.key.startswith("job-"))


def work_off(stop_after: int | None = None) -> JobStatus:
    """Runs the job that waits as a worker does, in a workspace of its own; ends after so many parts."""
    queue = StoreQueue(store())
    job = queue.take(this_owner())
    enough = lambda: stop_after is not None and len(queue.parts(job.number)) >= stop_after  # noqa: E731
    return run_job(queue, job, Workspace(), enough)


def test_long_planes_ask_first_and_are_jobs(opened, impatient):
    """The line and the plane each say their cost and wait for their own click; the plane's is a job's."""
    page = check_fine(opened(PAGE, samples="100"), charts=0)
    assert said(page, "The histogram at 17 dampings needs about **")
    assert said(page, "The 48 settings need about **")
    job_button(page).click().run()
    check_fine(page, charts=0)
    assert said(page, "**The plane** waits for the worker to begin.")
    assert work_off() is JobStatus.DONE
    page.run()
    check_fine(page, charts=2)
    assert said(page, "Of 48 settings, ")
    page.button(key="compute-line").click().run()
    check_fine(page)
    assert job_button(page).label == "Keep these 48 settings as runs"
    page.slider(key="sparsity").set_value(0.9).run()
    assert said(page, "The 48 settings need about **")  # other pruned networks: another job


def test_a_plane_is_drawn_as_its_job_goes(opened, impatient, monkeypatch):
    """What the worker has done is drawn, for everyone; stopped, it says so and goes on at a click, computing nothing twice."""
    monkeypatch.setattr(woodfisher_core.jobs.task, "TELL_SECONDS", 0.0)
    page = opened(PAGE, samples="100")
    job_button(page).click().run()
    assert work_off(stop_after=10) is JobStatus.QUEUED
    other = check_fine(opened(PAGE, samples="100"), charts=2)
    assert said(other, "**10 of 48 settings computed.**")
    assert said(other, "10 of 48 settings computed, the others are blank. Of those computed, ")
    queue = StoreQueue(store())
    number = queue.jobs()[0].number
    done = {part.position: part for part in queue.parts(number)}
    queue.cancel(number)
    other.run()
    assert said(other, "**The plane** was stopped after 10 of 48 points; that much is kept.")
    assert job_button(other).label == "Go on"
    job_button(other).click().run()
    assert work_off() is JobStatus.DONE
    check_fine(other.run(), charts=2)
    assert said(other, "Of 48 settings, ")
    after = {part.position: part for part in queue.parts(number)}
    assert len(after) == 48
    assert done.items() <= after.items()


def test_a_whole_plane_is_kept_as_runs(opened, monkeypatch):
    """A click asks for a sweep over its settings; its runs have the plane's accuracies."""
    monkeypatch.setattr(app.jobs, "ensure_worker", lambda store: None)
    page = check_fine(opened(PAGE, vary="mini-batch", samples="1000"))
    assert job_button(page).label == "Keep these 8 settings as runs"
    job_button(page).click().run()
    assert work_off() is JobStatus.DONE
    check_fine(page.run())
    assert said(page, ":material/bookmark_added: 8 of 8 settings are kept.")
    runs = store().runs().set_index("damping")
    for row in page.dataframe[0].value.itertuples():
        assert runs.loc[row.damping, "accuracy"] == row.accuracy
    assert len(runs) == 8
    store().delete([int(runs["id"].iloc[0])])
    check_fine(page.run())
    assert said(page, ":material/bookmark_added: 7 of 8 settings are kept.")
    page.button(key="keep-others").click().run()
    assert work_off() is JobStatus.DONE
    check_fine(page.run())
    assert said(page, ":material/bookmark_added: 8 of 8 settings are kept.")


def test_a_broken_store_leaves_short_planes_alone(opened, monkeypatch, tmp_path):
    """The file of the runs is no database: short planes are drawn, long ones say what is wrong."""
    (tmp_path / "no.sqlite").write_text("not a database, but longer than a header")
    monkeypatch.setenv("WOODFISHER_STORE", str(tmp_path / "no.sqlite"))
    page = check_fine(opened(PAGE, samples="100"))
    assert said(page, "Of 48 settings, ")
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 0.0)
    page.slider(key="sparsity").set_value(0.7).run()
    assert [error.value for error in page.error] == [
        f"store: {tmp_path / 'no.sqlite'} is no SQLite file. It is left as it is; choose another --store."
    ]


def test_a_partly_kept_plane_asks_for_the_rest(opened, impatient, partly_filled):
    """What another session left is drawn at once; the cost named is that of the rest."""
    page = check_fine(opened(PAGE, vary="block", samples="100"), charts=2)
    assert said(page, "The 31 settings left need about **")
    assert job_button(page).label == "Compute it"
