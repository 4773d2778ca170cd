"""The Gradual page through Streamlit's own test runner; the test does the worker's work."""

import base64
import json
import re

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import app.asking
import app.jobs
from app.linking import gradual_link_of
from woodfisher_core.experiments import PruneConfig, Workspace, gradual_cost
from woodfisher_core.experiments.cost import Cost
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.experiments.gradual_cost import predict_gradual
from woodfisher_core.jobs import JobStatus, StoreQueue
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.store import Store
from woodfisher_core.store.owners import this_owner

PAGE = "app_pages/gradual.py"
# Few images: seconds become tenths.
SMALL = {"samples": "50", "epochs": "4", "last": "3", "with": "magnitude"}
CONFIG = GradualConfig(
    prune=PruneConfig(model="digits-mlp"),
    schedule=GradualSchedule(final=0.8, initial=0.5, end_epoch=3, frequency=2),
    epochs=3,
)


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch):
    monkeypatch.setattr(app.jobs, "ensure_worker", lambda store: None)


@pytest.fixture
def queue(tmp_path) -> StoreQueue:
    return StoreQueue(Store(tmp_path / "runs.sqlite"))


def worked(queue: StoreQueue) -> list[str]:
    """Runs all that waits; the titles of it."""
    titles = []
    while (job := queue.take(this_owner())) is not None:
        assert run_job(queue, job, Workspace()) is JobStatus.DONE
        titles.append(job.title)
    return titles


def check_fine(page: AppTest) -> AppTest:
    assert not page.exception, [e.message for e in page.exception]
    assert not page.error, [e.value for e in page.error]
    assert len(page.get("plotly_chart")) == 3
    return page


def said(page: AppTest) -> str:
    return "\n".join(e.value for e in (*page.markdown, *page.caption)).replace("\u00a0", " ")


def labels(page: AppTest) -> list[str]:
    """The buttons of jobs; the side bar's are left out."""
    words = (button.label.replace("\u00a0", " ").partition(":")[0] for button in page.main.button)
    return [label for label in words if label.startswith(("Run", "Add", "Keep", "Go on"))]


def click(page: AppTest, label: str) -> AppTest:
    return next(button for button in page.main.button if button.label.startswith(label)).click().run()


def figure(page: AppTest, place: int = 0) -> dict:
    return json.loads(page.get("plotly_chart")[place].proto.spec)


def test_the_first_view_runs_by_itself(opened, queue):
    """The schedule and what pruning at once gives stand there at once; the run is asked for, and drawn when it is done."""
    page = check_fine(opened(PAGE))
    assert "Pruned to **80 %** at once, WoodFisher (OBS) leaves **90.40 %** (dense 97.20 %). In 6" in said(page)
    assert "Computing in the background …" in said(page)
    assert worked(queue) == [
        "WoodFisher (OBS) on digits-mlp: to sparsity 0.8 in 6 steps, 10 epochs",
        "WoodFisher (OBS) on digits-mlp: to sparsity 0.8 in 1 step, 10 epochs",
        "Magnitude on digits-mlp: to sparsity 0.8 in 6 steps, 10 epochs",
    ]
    check_fine(page.run())
    run = queue.store.get(1)
    accuracy = run.headline["accuracy"]
    assert f"in 6 steps with training in between, **{accuracy:.2f} %**." in said(page)
    assert f"At the end {accuracy:.2f} %: {accuracy - 90.4:+.1f} points against pruning at once." in said(page)
    assert "Kept as run 1, 2, 3." in said(page)
    assert "Up to date." in said(page)
    assert run.origin == "Gradual"
    magnitude = queue.store.get(3).headline["accuracy"]
    gap = re.escape(f"({accuracy - magnitude:+.2f} ± ")
    assert re.search(rf"against Magnitude \({magnitude:.2f} %\) it is .*{gap}\d", said(page))
    assert labels(page) == ["Add Diagonal Fisher (OBD)"]


def test_only_the_first_view_does(opened, queue):
    """Another setting waits for its click; another session finds what is there."""
    page = opened(PAGE, **SMALL)
    worked(queue)
    page.slider(key="sparsity").set_value(0.9).run()
    check_fine(page)
    assert labels(page)[0] == "Run it"
    assert len(queue.jobs()) == 3
    second = check_fine(opened(PAGE, **SMALL))
    assert len(queue.jobs()) == 3
    assert "Kept as run 1, 2, 3." in said(second)


def test_a_deleted_run_is_kept_again(opened, queue):
    """The page says that it is gone, and a click brings it back."""
    page = opened(PAGE, **SMALL)
    worked(queue)
    queue.store.delete([1])
    page.run()
    assert "against Magnitude" not in said(page)  # the network to compare went with it
    assert labels(page) == ["Keep WoodFisher (OBS) again"]
    click(page, "Keep")
    worked(queue)
    check_fine(page.run())
    assert "Kept as run 1, 2, 3." in said(page)
    assert labels(page) == []


def test_long_runs_ask(opened, queue, monkeypatch):
    monkeypatch.setattr(gradual_cost, "predict_gradual", lambda space, config: Cost(networks=150.0))
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 10.0)
    page = check_fine(opened(PAGE, **SMALL))
    assert queue.jobs() == []
    assert "Run it: about 2 min" in [button.label.replace("\u00a0", " ") for button in page.main.button]
    click(page, "Run it")
    assert len(queue.jobs()) == 1


def test_the_numbers_are_those_of_the_run(opened, queue):
    """The table and the figure hold what the same config gives elsewhere; the link's controls are the run's settings."""
    page = opened(PAGE, **SMALL, first="1", every="2", rate="0.03", batch="32", sparsity="0.9", seed="2")
    worked(queue)
    check_fine(page.run())
    config = GradualConfig.from_dict(min(queue.jobs(), key=lambda job: job.number).request)
    schedule, tuning = config.schedule, config.tuning
    assert (config.epochs, schedule.start_epoch, schedule.end_epoch, schedule.frequency) == (4, 1, 3, 2)
    assert (schedule.initial, schedule.final, tuning.learning_rate, tuning.batch_size) == (0.05, 0.9, 0.03, 32)
    assert (config.prune.seed, config.prune.num_samples) == (2, 50)
    records = run_gradual(config)[1].records
    wanted = [97.2]
    for record in records:
        wanted += [record.after.accuracy] if record.pruned is None else [record.pruned.accuracy, record.after.accuracy]
    table = page.dataframe[1].value
    own = table[table["label"] == "WoodFisher (OBS)"]
    assert own["accuracy"].tolist() == wanted
    columns = json.loads(page.dataframe[1].proto.columns)
    headings = {name: columns[name]["label"] for name in table.columns}
    assert {headings[name] for name in ("time", "loss", "training_loss")} == {
        *("Epochs trained", "Test loss (nats)", "Training loss (nats)")
    }
    assert own["training_loss"].dropna().tolist() == pytest.approx(
        [record.training_loss for record in records], rel=1e-6
    )
    assert figure(page)["data"][0]["name"] == "WoodFisher (OBS)"


def test_compared_with_another(opened, queue):
    """A click runs it on the same schedule; all are drawn, with what each method gives at once."""
    page = opened(PAGE, **SMALL | {"with": "diagonal-fisher"})
    worked(queue)
    page.run()
    assert labels(page) == ["Add Diagonal Fisher (OBD)"]
    click(page, "Add")
    assert worked(queue) == ["Diagonal Fisher (OBD) on digits-mlp: to sparsity 0.8 in 3 steps, 4 epochs"]
    check_fine(page.run())
    own, rival = "WoodFisher (OBS)", "Diagonal Fisher (OBD)"
    names = [trace["name"].partition(":")[0] for trace in figure(page)["data"]]
    once = [f"{label}, at once, untrained" for label in (own, rival)]
    assert names == [own, f"{own}, one step", rival, "dense", *once]
    losses = [trace["name"] for trace in figure(page, 1)["data"]]
    assert losses == [f"{label}, {on}" for on in ("test", "training") for label in names[:3]]
    requests = [job.request for job in sorted(queue.jobs(), key=lambda job: job.number)]
    assert requests[0]["schedule"] == requests[2]["schedule"]
    assert requests[0]["tuning"] == requests[1]["tuning"] == requests[2]["tuning"]
    assert (requests[1]["schedule"]["start_epoch"], requests[1]["schedule"]["end_epoch"]) == (1, 1)


def test_one_step_opens_as_itself(opened, queue):
    """The one-step rival is the run that the controls give with the last step in the first epoch."""
    opened(PAGE, **SMALL)
    worked(queue)
    config = GradualConfig.from_dict(queue.store.get(2).config)
    query, lost = gradual_link_of(config)
    assert lost == {}
    page = check_fine(opened(PAGE, **{name: value for name, value in query.items() if isinstance(value, str)}))
    assert "One step to 80.0 % before epoch 1, then 4 epochs of training." in said(page)
    assert "Kept as run 2" in said(page)


def test_rises_along_a_line(opened):
    """As much in every step, in the table, the sentence and the figure; what the cubic takes stands beside it."""
    page = check_fine(opened(PAGE, **SMALL, rise="straight"))
    table = page.dataframe[0].value
    assert table["of all"].tolist() == pytest.approx([5.0, 37.5, 37.5])
    assert "cubic" in table
    assert figure(page, 2)["data"][0]["name"] == "the cubic, for comparison"
    assert "3 steps: 37.5 % of all weights go in the second, 37.5 % in the last" in said(page)


def test_as_they_come(opened, queue):
    """Half a run is drawn as far as it is."""
    page = opened(PAGE, **SMALL)
    worked(queue)
    with queue.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM parts WHERE position > 2")
        running = "UPDATE jobs SET status = 'running', done = 2, owner = 'another machine|1|1', heartbeat = 4e9"
        connection.exec_driver_sql(running)
    check_fine(page.run())
    assert "So far 2 of 4 epochs: " in said(page)
    own = page.dataframe[1].value
    assert len(own[own["label"] == "WoodFisher (OBS)"]) == 5
    rings = figure(page, 2)["data"][-1]
    assert rings["name"] == "measured after each epoch"
    reached = np.frombuffer(base64.b64decode(rings["y"]["bdata"]), rings["y"]["dtype"])
    assert reached == pytest.approx(own["sparsity"].iloc[[2, 4]].to_numpy())


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("method", ["magnitude", "kfac", "structured"])
def test_other_networks_and_methods(opened, queue, model, method):
    page = opened(PAGE, model=model, method=method, samples="50", epochs="2", last="2")
    assert worked(queue)
    check_fine(page.run())
    assert "At the end " in said(page)


def test_fewer_epochs_than_before(opened):
    """Where the epochs end before the schedule, the schedule ends with them."""
    page = opened(PAGE, **SMALL)
    page.number_input(key="epochs").set_value(2).run()
    check_fine(page)
    assert page.number_input(key="last").value == 2
    assert "2 steps: " in said(page)


def test_a_pattern_is_one_step(opened, queue):
    page = check_fine(opened(PAGE, **SMALL, pattern="2:4", without="fc3"))
    assert "The pattern 2:4 is reached in one step, before epoch 3." in said(page)
    worked(queue)
    check_fine(page.run())
    assert "At the end " in said(page)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"first": "3", "last": "2"},
            "last step: expected it in the epoch of the first step (3) or a later one, got 2",
        ),
        ({"sparsity": "0"}, "sparsity: expected a final one above 0, got 0"),
    ],
)
def test_what_cannot_be_is_said(opened, settings, words):
    page = opened(PAGE, **SMALL | settings)
    assert not page.exception
    assert words in page.error[0].value


def test_a_broken_store_is_said(opened, tmp_path):
    (tmp_path / "runs.sqlite").write_text("my notes")
    page = opened(PAGE, **SMALL)
    assert not page.exception
    assert "is no SQLite file" in page.error[0].value
    assert (tmp_path / "runs.sqlite").read_text() == "my notes"


def test_cost_grows_with_the_work():
    """More epochs, more steps, more gradients cost more; what the workspace keeps makes nothing cheaper."""
    space = Workspace()
    cost = lambda **changes: predict_gradual(space, CONFIG.replace(**changes).resolved(space))  # noqa: E731
    base = cost()
    assert base.seconds > 0
    assert cost(epochs=30).networks > 3 * base.networks
    assert cost(schedule=GradualSchedule(final=0.8, initial=0.5, end_epoch=3)).inverse == pytest.approx(
        1.5 * base.inverse
    )
    assert cost(prune=CONFIG.prune.replace(method="magnitude", update=None)).gradients == 0.0
    space.outcome(CONFIG.prune)
    assert cost() == base
    assert predict_gradual(Workspace(), CONFIG.resolved(Workspace())).inverse > 0
