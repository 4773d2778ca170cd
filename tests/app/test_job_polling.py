"""Jobs on a page: asked for with a click, followed while they run, stopped, failed, gone on with; one for all sessions."""

import pytest
from streamlit.testing.v1 import AppTest

import app.jobs
from app.jobs import duration
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.jobs import JobStatus, Part, StoreQueue, Task
from woodfisher_core.jobs.prune import prune_request
from woodfisher_core.jobs.runner import run_job
from woodfisher_core.store import Store
from woodfisher_core.store.owners import this_owner


def script() -> None:
    import streamlit as st

    from app.jobs import Wanted, follow
    from woodfisher_core.experiments import PruneConfig
    from woodfisher_core.jobs.prune import prune_request

    config = PruneConfig(model="digits-mlp", method="magnitude", num_samples=10)
    wanted = [Wanted(prune_request(config), "Magnitude", "Run it", 3.2)]
    seen = follow(wanted, lambda now: st.markdown(f"drawn: {[part.value for part in now[0].parts]}"))
    st.markdown(f"page: {seen[0].job and seen[0].job.status}")


REQUEST = prune_request(PruneConfig(model="digits-mlp", method="magnitude", num_samples=10))
OTHER = prune_request(PruneConfig(model="digits-mlp", method="magnitude", num_samples=11))


@pytest.fixture(autouse=True)
def workers(monkeypatch) -> list[str]:
    """No worker is started; which stores one was wanted for."""
    wanted: list[str] = []
    monkeypatch.setattr(app.jobs, "ensure_worker", lambda store: wanted.append(store.place))
    return wanted


@pytest.fixture
def queue(tmp_path) -> StoreQueue:
    return StoreQueue(Store(tmp_path / "runs.sqlite"))


def opened() -> AppTest:
    page = AppTest.from_function(script, default_timeout=60).run()
    assert not page.exception, [e.message for e in page.exception]
    return page


def said(page: AppTest) -> str:
    assert not page.exception, [e.message for e in page.exception]
    shown = [element.value for element in (*page.markdown, *page.caption, *page.error)]
    return "\n".join([*shown, *(bar.proto.text for bar in page.get("progress"))]).replace("\u00a0", " ")


def buttons(page: AppTest) -> list[str]:
    return [button.label.replace("\u00a0", " ") for button in page.button]


def click(page: AppTest, label: str) -> AppTest:
    next(button for button in page.button if button.label.startswith(label)).click().run()
    return page


def test_asked_for_with_a_click(queue, workers):
    """The button says what it costs; the click queues the job and wants a worker for it."""
    page = opened()
    assert buttons(page) == ["Run it: about 3 s"]
    assert "page: None" in said(page)
    assert queue.jobs() == []
    assert workers == []
    click(page, "Run it")
    assert [job.key for job in queue.jobs()] == [REQUEST.key]
    assert set(workers) == {queue.store.place}
    assert "**Magnitude** waits for the worker to begin." in said(page)
    assert "It goes on when you leave or close this page." in said(page)
    assert buttons(page) == ["Stop"]


def test_those_before_it(queue):
    queue.submit(OTHER)
    queue.submit(REQUEST)
    assert "**Magnitude** waits: 1 job before it." in said(opened())


def test_followed_while_it_runs(queue):
    """Message, time left and parts as they are; a click stops it."""
    queue.submit(REQUEST)
    task = Task(queue, queue.take(this_owner()), Workspace())
    task.expect(4)
    task.keep(Part(0, {"a": 1}))
    task.say("half-way")
    task.tell()
    page = opened()
    assert "**Magnitude**: half-way · about " in said(page)
    assert page.get("progress")[0].proto.value == 25
    assert "drawn: [{'a': 1}]" in said(page)
    task.keep(Part(1, {"a": 2}))
    assert "drawn: [{'a': 1}, {'a': 2}]" in said(page.run())
    click(page, "Stop")
    assert "stopping …" in said(page)
    assert queue.get(task.job.number).cancel


def test_done(queue):
    """Its parts are drawn; nothing is left to click, and nobody wants a worker."""
    number = queue.submit(REQUEST).number
    page = opened()
    assert run_job(queue, queue.take(this_owner(), number), Workspace()) is JobStatus.DONE
    page.run()
    assert "page: done" in said(page)
    assert "drawn: [{'run': 1, 'reused': False}]" in said(page)
    assert buttons(page) == []


def test_it_ends_between_two_looks(queue, monkeypatch):
    """A job that ends while the page is drawn has the whole page drawn again: nothing says that it still runs."""
    queue.submit(REQUEST)
    look, looks = app.jobs.look, []

    def looking(wanted):
        looks.append(wanted)
        if len(looks) == 2:
            run_job(queue, queue.take(this_owner()), Workspace())
        return look(wanted)

    monkeypatch.setattr(app.jobs, "look", looking)
    page = opened()
    assert "page: done" in said(page)
    assert buttons(page) == []
    assert len(looks) == 4


def test_stopped_before_it_began(queue):
    """It says so, and a click asks for it again."""
    number = queue.submit(REQUEST).number
    page = click(opened(), "Stop")
    assert queue.get(number).status is JobStatus.CANCELLED
    assert "**Magnitude** was stopped." in said(page)
    assert buttons(page) == ["Go on"]
    click(page, "Go on")
    assert queue.get(number).status is JobStatus.QUEUED
    assert buttons(page) == ["Stop"]


def test_failed(queue):
    """The error's own words; a click tries again."""
    number = queue.submit(REQUEST).number
    queue.take(this_owner())
    queue.finish(number, this_owner(), JobStatus.FAILED, "out of memory: lower num_samples.")
    page = opened()
    assert [error.value for error in page.error] == ["Magnitude: out of memory: lower num_samples."]
    click(page, "Try again")
    assert queue.get(number).status is JobStatus.QUEUED
    assert not page.error


def test_two_sessions_share_a_job(queue):
    """Both ask for it, both see it; there is one."""
    first, second = opened(), opened()
    click(first, "Run it")
    click(second, "Run it")
    assert len(queue.jobs()) == 1
    assert buttons(first) == buttons(second) == ["Stop"]
    click(first, "Stop")
    assert buttons(second.run()) == ["Go on"]


def test_a_store_that_fails_is_said(queue, monkeypatch):
    """A click that cannot be kept shows why, once, and no traceback."""
    page = opened()

    def full(*_arguments):
        raise app.jobs.WoodFisherError("store: the disk may be full.")

    monkeypatch.setattr(app.jobs, "submit", full)
    click(page, "Run it")
    assert [error.value for error in page.error] == ["store: the disk may be full."]
    assert not page.run().error


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "1 s"), (59.6, "60 s"), (99.4, "99 s"), (100.0, "2 min"), (5969.0, "99 min"), (9000.0, "2.5 h")],
)
def test_durations(seconds, words):
    assert duration(seconds).replace("\u00a0", " ") == words


def test_a_click_that_cannot_write_says_so(monkeypatch):
    """The error of a callback is shown where the page has a place for it, once."""

    def script():
        import streamlit as st

        from app.attempts import attempt, say_what_went_wrong
        from woodfisher_core.errors import StoreError

        def full() -> None:
            raise StoreError("store: the disk is full")

        say_what_went_wrong()
        st.button("Delete", on_click=attempt, args=(full,))

    page = AppTest.from_function(script).run()
    assert not page.error
    page.button[0].click().run()
    assert [error.value for error in page.error] == ["store: the disk is full"]
    assert not page.run().error
