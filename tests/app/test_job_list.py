"""All jobs on the Runs page: under way, stopped, failed; and gradual runs opened again on their own page."""

import pytest

import app.job_list
import app.shared
from app.linking import gradual_link_of
from app.shared import store, workspace
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.jobs import JobRequest, JobStatus, Part, StoreQueue
from woodfisher_core.jobs.gradual import gradual_request
from woodfisher_core.jobs.prune import prune_request
from woodfisher_core.jobs.queue import add_part
from woodfisher_core.schedules import GradualSchedule

RUNS, GRADUAL = "app_pages/runs.py", "app_pages/gradual.py"
PRUNE = PruneConfig(model="digits-mlp", num_samples=50, sparsity=0.8, solver="spectral")


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch):
    for module in (app.job_list, app.jobs, app.shared):
        monkeypatch.setattr(module, "ensure_worker", lambda store: None)


def titles(page) -> list[str]:
    return [expander.label for expander in page.expander]


def test_no_jobs_no_list(opened):
    page = opened(RUNS)
    assert not page.exception
    assert not any(title.startswith("Jobs") for title in titles(page))


def test_a_waiting_job_is_listed_and_stopped(opened):
    """With its place in the queue; stopped it is among those that are over."""
    queue = StoreQueue(store())
    first = queue.submit(prune_request(PRUNE, "Explore"))
    second = queue.submit(prune_request(PRUNE.replace(sparsity=0.5)))
    page = opened(RUNS)
    assert not page.exception
    assert "Jobs: 2 under way or waiting" in titles(page)
    words = [markdown.value for markdown in page.markdown]
    assert f"**{first.title}** waits for the worker to begin." in words
    assert f"**{second.title}** waits: 1 job before it." in words
    page.button(key=f"stop-job-{first.number}").click().run()
    page.run()
    assert "Jobs: 1 under way or waiting" in titles(page)
    assert queue.get(first.number).status is JobStatus.CANCELLED
    row = page.dataframe[0].value.iloc[0]
    assert (row["job"], row["ended as"], row["asked for by"]) == (first.title, "Cancelled", "Explore")


def test_a_failed_job_says_why(opened):
    queue = StoreQueue(store())
    job = queue.submit(JobRequest(kind="prune", request=PRUNE.to_dict(), title="one"))
    taken = queue.take("somewhere|1|1.0", job.number)
    queue.finish(job.number, taken.owner, JobStatus.FAILED, "no inverse there")
    page = opened(RUNS)
    assert "Jobs: nothing under way" in titles(page)
    assert page.dataframe[0].value["what went wrong"].tolist() == ["no inverse there"]


def test_failed_parts_are_counted(opened):
    """Of a sweep that is done some points may have failed; parts are called what they are."""
    queue = StoreQueue(store())
    job = queue.submit(JobRequest(kind="sweep", request={}, title="three"))
    taken = queue.take("somewhere|1|1.0", job.number)
    queue.tell(job.number, taken.owner, done=3, total=3, message="")
    with queue.store.writing() as connection:
        for position, error in enumerate((None, "it broke", "out of memory")):
            add_part(connection, job.number, Part(position, {}, error=error))
    queue.finish(job.number, taken.owner, JobStatus.DONE)
    assert opened(RUNS).dataframe[0].value["parts"].tolist() == ["3 of 3 points, 2 failed"]


def gradual(**tuning) -> GradualConfig:
    schedule = GradualSchedule(initial=0.05, final=0.8, start_epoch=2, end_epoch=3, frequency=1)
    return GradualConfig(prune=PRUNE, schedule=schedule, epochs=4, tuning=FineTuning(**tuning))


def test_a_gradual_run_opens_on_its_page(opened):
    """The page that its link opens asks for the very same job, and for its rivals after it."""
    config = gradual(learning_rate=0.03, batch_size=128)
    query, lost = gradual_link_of(config)
    assert lost == {}
    page = opened(GRADUAL, **query)
    assert not page.exception
    asked = gradual_request(config.resolved(workspace())).key
    first = min(StoreQueue(store()).jobs(), key=lambda job: job.number)  # the first view begins by itself
    assert first.key == asked


def test_what_the_gradual_page_cannot_show_is_named():
    _, lost = gradual_link_of(gradual(learning_rate=0.02, optimizer="adam"))
    assert lost == {"tuning.learning_rate": (0.02, 0.03), "tuning.optimizer": ("adam", "sgd")}
