"""The Gradual page through Streamlit's own test runner; the test does the worker's work."""

import json

import pytest
from streamlit.testing.v1 import AppTest

import app.asking
import app.jobs
from app import charts
from app.explain_gradual import epochs_in, level_table, saw_points, saw_sentence, schedule_sentence
from woodfisher_core.experiments import PruneConfig, Workspace, gradual_cost
from woodfisher_core.experiments.cost import Cost
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.experiments.gradual_cost import predict_gradual
from woodfisher_core.jobs import JobStatus, Part, StoreQueue
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.store import Store
from woodfisher_core.store.owners import this_owner

PAGE = "app_pages/gradual.py"
# Few images: seconds become tenths.
SMALL = {"samples": "50", "epochs": "4", "last": "3", "with": "magnitude"}


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
    assert len(page.get("plotly_chart")) == 2
    return page


def said(page: AppTest) -> str:
    return "\n".join(e.value for e in (*page.markdown, *page.caption)).replace("\u00a0", " ")


def labels(page: AppTest) -> list[str]:
    return [button.label.partition(":")[0] for button in page.button]


def figure(page: AppTest, place: int = 0) -> dict:
    return json.loads(page.get("plotly_chart")[place].proto.spec)


def test_the_first_view_runs_by_itself(opened, queue):
    """The schedule and what pruning at once gives stand there at once; the run is asked for, and drawn when it is done."""
    page = check_fine(opened(PAGE))
    assert (
        "Pruned to **80 %** at once, WoodFisher (OBS) leaves **90.40 %** of the dense network's 97.20 %. In 6"
        in said(page)
    )
    assert [job.title for job in queue.jobs()] == [
        "WoodFisher (OBS) on digits-mlp: to sparsity 0.8 in 6 steps, 10 epochs"
    ]
    assert "Computing in the background …" in said(page)
    assert worked(queue) != []
    check_fine(page.run())
    run = queue.store.get(1)
    accuracy = run.headline["accuracy"]
    assert f"in 6 steps with training in between, **{accuracy:.2f} %**." in said(page)
    assert f"At the end {accuracy:.2f} %: {accuracy - 90.4:+.1f} points against pruning at once." in said(page)
    assert "Kept as run 1." in said(page)
    assert "Up to date." in said(page)
    assert run.origin == "Gradual"


def test_only_the_first_view_does(opened, queue):
    """Another setting waits for its click; another session finds what is there."""
    page = opened(PAGE, **SMALL)
    worked(queue)
    page.slider(key="sparsity").set_value(0.9).run()
    check_fine(page)
    assert labels(page)[0] == "Run it"
    assert len(queue.jobs()) == 1
    second = check_fine(opened(PAGE, **SMALL))
    assert len(queue.jobs()) == 1
    assert "Kept as run 1." in said(second)


def test_a_deleted_run_is_kept_again(opened, queue):
    """The page says that it is gone, and a click brings it back."""
    page = opened(PAGE, **SMALL)
    worked(queue)
    queue.store.delete([1])
    page.run()
    again = next(button for button in page.button if button.label.endswith("again: its run was deleted"))
    again.click().run()
    worked(queue)
    check_fine(page.run())
    assert "Kept as run 1." in said(page)
    assert not any("again" in label for label in labels(page))


def test_long_runs_ask(opened, queue, monkeypatch):
    monkeypatch.setattr(gradual_cost, "predict_gradual", lambda space, config: Cost(networks=150.0))
    monkeypatch.setattr(app.asking, "ASK_SECONDS", 10.0)
    page = check_fine(opened(PAGE, **SMALL))
    assert queue.jobs() == []
    assert page.button[0].label.replace("\u00a0", " ") == "Run it: about 2 min"
    page.button[0].click().run()
    assert len(queue.jobs()) == 1


def test_the_numbers_are_those_of_the_run(opened, queue):
    """The table and the figure hold what the same config gives elsewhere; the link's controls are the run's settings."""
    page = opened(PAGE, **SMALL, first="1", every="2", rate="0.03", batch="32", sparsity="0.9", seed="2")
    worked(queue)
    check_fine(page.run())
    config = GradualConfig.from_dict(queue.jobs()[0].request)
    schedule, tuning = config.schedule, config.tuning
    assert (config.epochs, schedule.start_epoch, schedule.end_epoch, schedule.frequency) == (4, 1, 3, 2)
    assert (schedule.initial, schedule.final, tuning.learning_rate, tuning.batch_size) == (0.05, 0.9, 0.03, 32)
    assert (config.prune.seed, config.prune.num_samples) == (2, 50)
    records = run_gradual(config)[1].records
    wanted = [97.2]
    for record in records:
        wanted += [record.after.accuracy] if record.pruned is None else [record.pruned.accuracy, record.after.accuracy]
    assert page.dataframe[0].value["accuracy"].tolist() == wanted
    assert figure(page)["data"][0]["name"] == "WoodFisher (OBS)"


def test_compared_with_magnitude(opened, queue):
    """A click runs it on the same schedule; both are drawn, with what each gives at once."""
    page = opened(PAGE, **SMALL)
    worked(queue)
    page.run()
    assert labels(page) == ["Compare with Magnitude, same schedule"]
    page.button[0].click().run()
    assert worked(queue) == ["Magnitude on digits-mlp: to sparsity 0.8 in 3 steps, 4 epochs"]
    check_fine(page.run())
    names = [trace["name"].partition(":")[0] for trace in figure(page)["data"]]
    assert names == ["WoodFisher (OBS)", "Magnitude", "dense", "WoodFisher (OBS), at once", "Magnitude, at once"]
    assert "Kept as run 1, 2." in said(page)
    requests = [job.request for job in queue.jobs()]
    assert requests[0]["schedule"] == requests[1]["schedule"]
    assert requests[0]["tuning"] == requests[1]["tuning"]


def test_as_they_come(opened, queue):
    """Half a run is drawn as far as it is."""
    page = opened(PAGE, **SMALL)
    worked(queue)
    with queue.store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM parts WHERE position > 2")
        connection.exec_driver_sql("UPDATE jobs SET status = 'running', done = 2, owner = 'another machine|1|1'")
        connection.exec_driver_sql("UPDATE jobs SET heartbeat = 4e9")
    check_fine(page.run())
    assert "So far 2 of 4 epochs: " in said(page)
    assert len(page.dataframe[0].value) == 5


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("method", ["magnitude", "kfac", "structured"])
def test_other_networks_and_methods(opened, queue, model, method):
    page = opened(PAGE, model=model, method=method, samples="50", epochs="2", last="2")
    assert len(worked(queue)) == 1
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
        ({"first": "3", "last": "2"}, "end epoch: expected the start epoch (3) or a later one, got 2"),
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


def epoch(number: int, before: float | None, pruned: float | None, after: float, sparsity: float = 0.5) -> dict:
    score = lambda value: None if value is None else {"accuracy": value, "loss": 0.1}  # noqa: E731
    return {
        "epoch": number,
        "sparsity": sparsity,
        "before": score(before),
        "pruned": score(pruned),
        "after": score(after),
    }


EPOCHS = [epoch(1, 97.0, 90.0, 95.0), epoch(2, None, None, 96.0), epoch(3, 96.0, 60.0, 94.0, 0.8)]
CONFIG = GradualConfig(
    prune=PruneConfig(model="digits-mlp"),
    schedule=GradualSchedule(final=0.8, initial=0.5, end_epoch=3, frequency=2),
    epochs=3,
)


def test_the_saw():
    """Falls where it is pruned, without time passing; rises over the epochs."""
    table = saw_points("magnitude", "Magnitude", 97.0, EPOCHS)
    assert table["time"].tolist() == [0, 0, 1, 2, 2, 3]
    assert table["accuracy"].tolist() == [97, 90, 95, 96, 60, 94]
    assert table["moment"].tolist() == ["dense", "pruned", "trained", "trained", "pruned", "trained"]
    drawn = charts.saw_tooth(table, 97.0, table.head(1)[["method", "label", "accuracy"]], 3)
    assert list(drawn.data[0].y) == [97, 90, 95, 96, 60, 94]
    assert drawn.layout.yaxis.range == (50.0, 102)
    assert drawn.layout.title.text.endswith("?")


def test_the_schedule_is_drawn_as_steps():
    """Each step stands at the end of the epoch before it, at its level."""
    drawn = charts.schedule_levels(level_table(CONFIG), 3)
    assert list(drawn.data[0].x) == [0, 0, 0, 2, 2, 3]
    assert list(drawn.data[0].y) == [0, 0, 0.5, 0.5, 0.8, 0.8]
    assert list(drawn.data[1].x) == [0, 2]
    assert "2 steps: 30.0 % of all weights go in the second" in schedule_sentence(CONFIG).replace("\u00a0", " ")


def test_sentences():
    words = lambda epochs: saw_sentence(CONFIG, "Magnitude", epochs, 70.0).replace("\u00a0", " ")  # noqa: E731
    assert words([]).endswith("The steps are not run yet.")
    assert words(EPOCHS[:2]) == (
        "The hardest step of Magnitude, to 50.0 %, costs 7.0 points; the epoch after it brings back 5.0. So far 2 of 3 epochs: "
        "96.00 %."
    )
    assert words(EPOCHS) == (
        "The hardest step of Magnitude, to 80.0 %, costs 36.0 points; the epoch after it brings back 34.0. At the end 94.00 %: "
        "+24.0 points against pruning at once."
    )
    assert words([epoch(1, 97.0, 97.0, 96.0)]).startswith("No step costs any accuracy. So far 1 of 3")
    assert "brings nothing back" in words([epoch(1, 97.0, 90.0, 89.0)])


def test_gaps_are_not_drawn():
    """Epochs behind one that is missing wait for it."""
    parts = [Part(one["epoch"], one) for one in EPOCHS]
    assert epochs_in(parts) == EPOCHS
    assert epochs_in([parts[2], parts[0]]) == EPOCHS[:1]
    assert epochs_in([]) == []


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
