"""Long work of a page runs as a job: asked for here, computed by the worker, and drawn as it comes in.

A job belongs to its request, not to a tab: everyone who asks for the same sees the same one, and it goes on when the tab is
closed. A page looks every second while something is unfinished, and runs again as a whole when that ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from app.attempts import attempt, say_what_went_wrong
from app.shared import store
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.jobs import Job, JobRequest, JobStatus, Part, Queue, StoreQueue
from woodfisher_core.jobs.kinds import parts_words, submit
from woodfisher_core.jobs.starting import ensure_worker

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Wanted:
    """A job that a page would show: ``label`` names it, ``button`` asks for it; it will probably take ``seconds``."""

    request: JobRequest
    label: str
    button: str
    seconds: float | None = None


@dataclass(frozen=True)
class Seen:
    """How far a wanted job is: ``job`` None was never asked for."""

    wanted: Wanted
    job: Job | None
    parts: tuple[Part, ...]

    @property
    def busy(self) -> bool:
        """Whether it waits or runs."""
        return self.job is not None and not self.job.over


def queue() -> Queue:
    """The queue in the run store that all sessions share."""
    return StoreQueue(store())


def look(wanted: Sequence[Wanted]) -> tuple[Seen, ...]:
    """How far each job is now."""
    known = queue()
    found = []
    for one in wanted:
        job = known.find(one.request)
        found.append(Seen(one, job, () if job is None else tuple(known.parts(job.number))))
    return tuple(found)


def start(request: JobRequest) -> None:
    """Asks for a job; one that was stopped goes on. An error is said where the jobs are followed."""
    attempt(_start, request)


def _start(request: JobRequest) -> None:
    submit(queue(), request)
    ensure_worker(store())


def follow(wanted: Sequence[Wanted], draw: Callable[[tuple[Seen, ...]], None]) -> tuple[Seen, ...]:
    """Shows where each job stands, with its buttons, and below them what ``draw`` makes of the parts; again every second
    while one of them is unfinished. Returns how far they were when the page ran."""
    before = look(wanted)
    polling = any(seen.busy for seen in before)

    @st.fragment(run_every=POLL_SECONDS if polling else None)
    def panel() -> None:
        try:
            now = look(wanted)
            busy = any(seen.busy for seen in now)
            if busy:
                ensure_worker(store())  # should it have died meanwhile
            if busy != polling:
                st.rerun()  # before anything is drawn: what stands there stays until the page has it anew
            _standings(now)
            say_what_went_wrong()
            draw(now)
        except WoodFisherError as error:
            st.error(str(error), icon=":material/error:")

    panel()
    return before


def _standings(jobs: Sequence[Seen]) -> None:
    """A line for each job that was asked for, then the buttons of the others."""
    for seen in jobs:
        if seen.job is not None:
            _standing(seen)
    if any(seen.busy for seen in jobs):
        st.caption("It goes on when you leave or close this page.")
    if offered := [seen.wanted for seen in jobs if seen.job is None]:
        with st.container(horizontal=True):
            for wanted in offered:
                cost = "" if wanted.seconds is None else f": about {duration(wanted.seconds)}"
                _button(f"{wanted.button}{cost}", "play_arrow", _start_key(wanted), start, wanted.request)


def _standing(seen: Seen) -> None:
    """One line: what the job does or waits for, and what can be done about it."""
    job, label, key = seen.job, seen.wanted.label, _start_key(seen.wanted)
    if seen.busy:
        with st.container(horizontal=True, vertical_alignment="center"):
            progress(job, label)
            _button(
                "Stop", "stop", f"stop-{key}", cancel, job.number, "For everyone who looks at it; what is done stays."
            )
    elif job.status is JobStatus.CANCELLED:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{label}** was stopped{f' after {parts_words(job)}; that much is kept' if job.done else ''}."
            )
            _button("Go on", "play_arrow", key, start, seen.wanted.request)
    elif job.status is JobStatus.FAILED:
        st.error(f"{label}: {job.error}", icon=":material/error:")
        _button("Try again", "refresh", key, start, seen.wanted.request)


def progress(job: Job, label: str) -> None:
    """What an unfinished job does or waits for."""
    if job.status is JobStatus.QUEUED:
        st.markdown(f"**{label}** {_waiting(job)}")
    else:
        done = min(1.0, job.done / job.total) if job.total else 0.0
        st.progress(done, text=f"**{label}**: {_doing(job)}")


def _start_key(wanted: Wanted) -> str:
    return f"job-{wanted.request.key[:16]}"


def _waiting(job: Job) -> str:
    if not job.ahead:
        return "waits for the worker to begin."
    left = "" if job.seconds_left is None else f", about {duration(job.seconds_left)}"
    return f"waits: {job.ahead} job{'s' if job.ahead > 1 else ''} before it{left}."


def _doing(job: Job) -> str:
    if job.cancel:
        return "stopping …"
    left = "" if job.seconds_left is None else f" · about {duration(job.seconds_left)} left"
    return f"{job.message or 'begins …'}{left}"


def cancel(number: int) -> None:
    """Stops a job for everyone."""
    attempt(lambda: queue().cancel(number))


def _button(label: str, icon: str, key: str, action: Callable[..., None], argument: object, help: str | None = None):
    st.button(label, icon=f":material/{icon}:", key=key, on_click=action, args=(argument,), help=help)


def duration(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 5970 else f"{seconds / 3600:.1f}\u00a0h"
