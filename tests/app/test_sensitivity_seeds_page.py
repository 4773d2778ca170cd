"""The Sensitivity page over several seeds, the update scale and limited data, through Streamlit's own test runner."""

import json

import pytest
from streamlit.testing.v1 import AppTest

import app.jobs
from app.shared import store, workspace
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.jobs import JobStatus, StoreQueue
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.store.owners import this_owner

PAGE = "app_pages/sensitivity.py"


def check_fine(page: AppTest, charts: int = 3) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == charts
    return page


def said(page: AppTest, part: str) -> bool:
    return any(part in element.value for element in (*page.caption, *page.markdown, *page.info))


def work_off() -> list[JobStatus]:
    """Runs the jobs that wait, as a worker does."""
    queue, ended = StoreQueue(store()), []
    while (job := queue.take(this_owner())) is not None:
        ended.append(run_job(queue, job, Workspace()))
    return ended


def test_three_seeds_have_means_spreads_and_pairs(opened):
    """The table has each run, the cells means over a standard deviation; another draw's overlap is a measure of its own."""
    page = check_fine(opened(PAGE, samples="50", draws="3"))
    runs = page.dataframe[0].value
    assert len(runs) == 3 * 48
    cell = runs[(runs["num_samples"] == 50) & (runs["damping"] == 1e-3)]
    setting = PruneConfig(model="digits-mlp", sparsity=0.8, num_samples=50, solver="spectral")
    assert cell["accuracy"].tolist() == [
        workspace().evaluation(setting.replace(seed=seed)).accuracy for seed in (0, 1, 2)
    ]
    assert said(page, "over 3 seeds the accuracy of a setting has a standard deviation of ")
    assert said(page, "Would another draw of images keep the same weights?")
    assert said(page, "beyond the noise of the draw and of the test set together")
    texts = json.loads(page.get("plotly_chart")[1].proto.spec)["data"][0]["text"]
    assert texts[4][1] == f"{cell['accuracy'].mean():.1f}<br>±{cell['accuracy'].std():.1f}"
    page.segmented_control(key="measure").set_value("overlap between seeds").run()
    check_fine(page)
    assert "kept weights two seeds share" in page.get("plotly_chart")[1].proto.spec
    page.segmented_control(key="draws").set_value(1).run()  # nothing to compare: back to the accuracy
    check_fine(page)
    assert page.segmented_control(key="measure").value == "accuracy"
    assert len(page.dataframe[0].value) == 48
    assert not said(page, "Noise of the draw")


def test_the_update_scale_is_an_axis(opened):
    """Of the independent update; with another one the page says why there is no plane, and is up to date all the same."""
    page = check_fine(opened(PAGE, samples="50", vary="update scale", along="the other axis"))
    assert said(page, "Of 48 settings, ")
    assert said(page, "Outlined: your setting.")
    assert "How much of the step should be taken?" in page.get("plotly_chart")[2].proto.spec
    page.selectbox(key="update").set_value("joint").run()
    check_fine(page, charts=1)
    assert said(page, "Only the independent update has a scale, and the update in the sidebar is 'joint'")
    assert said(page, "Up to date.")


def test_limited_data_is_an_axis(opened, monkeypatch):
    """Columns up to N in one stage, which is said; each is kept as runs with no more samples than images, at one click."""
    monkeypatch.setattr(app.jobs, "ensure_worker", lambda store: None)
    page = check_fine(opened(PAGE, samples="50", vary="images"))
    assert page.dataframe[0].value["images"].unique().tolist() == [10, 20, 50]
    assert said(page, "nothing looks at images beyond N: 50 say it all.")
    assert said(page, "Outlined: your setting.")
    page.button(key="keep-plane").click().run()
    assert work_off() == [JobStatus.DONE] * 3
    check_fine(page.run())
    assert said(page, "24 of 24 settings are kept.")
    runs = store().runs()
    assert len(runs) == 24
    assert sorted(runs["num_samples"].unique()) == [10, 20, 50]


def test_a_plane_of_seeds_is_a_job_that_fills_seed_after_seed(opened, monkeypatch):
    """It says how many runs that takes, and draws the means of what is there."""
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(app.jobs, "ensure_worker", lambda store: None)
    page = check_fine(opened(PAGE, samples="50", vary="mini-batch", draws="3"), charts=0)
    assert said(page, "runs (3 seeds of ")
    next(button for button in page.button if button.key.startswith("job-")).click().run()
    queue = StoreQueue(store())
    job = queue.take(this_owner())
    assert job.title.endswith(", 3 seeds")
    enough = lambda: len(queue.parts(job.number)) >= 60  # noqa: E731
    monkeypatch.setattr("woodfisher_core.jobs.task.TELL_SECONDS", 0.0)
    assert run_job(queue, job, Workspace(), enough) is JobStatus.QUEUED
    check_fine(page.run(), charts=2)
    total = 3 * len(page.dataframe[0].value[lambda rows: rows["seed"] == 0])
    assert said(page, f"**60 of {total} runs computed.**")
    assert said(page, "over 2 seeds the accuracy of a setting has")
    assert work_off() == [JobStatus.DONE]
    check_fine(page.run(), charts=2)
    assert len(page.dataframe[0].value) == total


@pytest.mark.parametrize("scale", ["absolute", "relative"])
def test_colours_show_the_spread(opened, scale):
    """By link, with either damping."""
    page = check_fine(opened(PAGE, samples="50", draws="3", colours="spread", **{"damping-scale": scale}))
    assert "Where does the draw of images decide?" in page.get("plotly_chart")[1].proto.spec
