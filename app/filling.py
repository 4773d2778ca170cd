"""A plane that fills while one looks. A short one fills in the page: it streams in, stops on one click and goes on on another.
A long one asks first and then is a job, which goes on when the page is closed.

Streamlit runs the page again on a click and ends the run before at its next ``st`` call, here the progress bar's after
each point. Every point is kept by then, so stopping loses nothing: the next run draws what there is.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from app import asking
from app.asking import go_button, say
from app.jobs import Seen, Wanted, follow, look
from woodfisher_core.errors import StoreError
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.experiments.plane import Plane, computed, keep_rows, kept_plane, missing_points, plane
from woodfisher_core.jobs.plane import plane_request, row_of
from woodfisher_core.options import Axis

# A filling plane is drawn again when a column is done, but no more often than this: each drawing costs the browser too.
REDRAW_SECONDS = 1.0


def filled(space: Workspace, wanted: Plane, draw: Callable[[pd.DataFrame, str], None]) -> pd.DataFrame:
    """The table of ``wanted``, computed as far as it may be; ``draw(table, key)`` is called with it, also on the way."""
    missing, seen = missing_points(space, wanted), None
    if missing:
        asked = Wanted(plane_request(_resolved(space, wanted), "sensitivity"), "The plane", "Compute it")
        seen = _taken_over(space, wanted, asked)
        missing = missing_points(space, wanted)
    price = _price_of(space, missing)
    if not missing:
        table = kept_plane(space, wanted)
        draw(table, "done")
        return table
    if price.seconds > asking.ASK_SECONDS or (seen is not None and seen.job is not None):
        return _as_a_job(space, wanted, asked, price, draw)
    return _in_the_page(space, wanted, price, draw)


def _as_a_job(
    space: Workspace, wanted: Plane, asked: Wanted, price: cost.Cost, draw: Callable[[pd.DataFrame, str], None]
) -> pd.DataFrame:
    """Draws what a job has computed so far, and asks for the job where nobody has."""
    table = kept_plane(space, wanted)
    here, column = len(computed(table)), len(wanted.dampings)

    def grown(now: tuple[Seen, ...]) -> None:
        # The charts stand outside the part of the page that looks every second: all of it runs again for a new column.
        if len(now[0].parts) >= here + column and not now[0].job.over:
            st.rerun()

    if here:
        _say_partial(wanted, here)
    place = st.container()
    seen = follow((asked,), grown)[0]
    if seen.job is None:
        with place:
            _price(wanted, here, price)
    if here:
        draw(table, f"job-{here}")
    return table


def _in_the_page(
    space: Workspace, wanted: Plane, price: cost.Cost, draw: Callable[[pd.DataFrame, str], None]
) -> pd.DataFrame:
    """Computes and draws the plane while the page runs, unless it was stopped."""
    row, table = st.empty(), kept_plane(space, wanted)
    drawn = len(computed(table))
    if st.session_state.get("stopped") == wanted:
        with row.container():
            if drawn:
                _say_partial(wanted, drawn)
            _price(wanted, drawn, price)
            go_button("Continue" if drawn else "Compute it", "go-on", _go_on)
        if drawn:
            draw(table, "partial")
        return table
    with row.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, text="Computing …")
        st.button("Stop here", icon=":material/stop:", key="stop", on_click=_stop, args=(wanted,))
    draw(table, "start")
    at, reached = time.monotonic(), drawn / len(table)

    def progress(phase: str, done: int, total: int) -> None:
        nonlocal drawn, at, reached
        if phase != "plane":
            bar.progress(reached, text=f"{phase}: {done:,} of {total:,}")
            return
        reached = done / total
        bar.progress(reached, text=f"{done} of {total} {_unit(wanted)} computed. Stopping keeps them.")
        if done % len(wanted.dampings) == 0 and drawn < done < total and time.monotonic() - at > REDRAW_SECONDS:
            draw(kept_plane(space, wanted), f"after-{done}")
            drawn, at = done, time.monotonic()

    table = plane(space, wanted, progress)
    row.empty()
    draw(table, "done")
    return table


def _taken_over(space: Workspace, wanted: Plane, asked: Wanted) -> Seen | None:
    """How far a job for ``wanted`` is, its points taken into the workspace; None where the run store cannot be read."""
    try:
        seen = look((asked,))[0]
    except StoreError:
        return None  # a short plane does without; a long one says what is wrong when it asks for its job
    keep_rows(space, wanted, {part.position: row_of(part) for part in seen.parts})
    return seen


def _resolved(space: Workspace, wanted: Plane) -> Plane:
    """``wanted`` with the hashes of weights and data, so that its job is that of everyone who means the same."""
    return dataclasses.replace(wanted, config=space.resolve(wanted.config))


def _unit(wanted: Plane) -> str:
    """What is counted: settings, or runs where each setting has one a seed."""
    return "runs" if wanted.seeds else "settings"


def _say_partial(wanted: Plane, done: int) -> None:
    left = "the means below are over the seeds that are there." if wanted.seeds else "the others are blank below."
    st.markdown(f"**{done} of {wanted.total} {_unit(wanted)} computed.** They are kept; {left}")


def _price_of(space: Workspace, points: Sequence[PruneConfig]) -> cost.Cost:
    """What ``points`` cost; seeds share no gradients and no inverse."""
    by_seed = itertools.groupby(points, key=lambda point: point.seed)
    return sum((cost.predict_points(space, list(part)) for _, part in by_seed), cost.Cost())


def _price(wanted: Plane, done: int, price: cost.Cost) -> None:
    """Says what the rest costs."""
    left = wanted.total - done
    seeds = f" ({len(wanted.seeds)} seeds of {wanted.cells} settings)" if wanted.seeds and not done else ""
    say(
        f"The {left} {_unit(wanted)} {'left ' if done else ''}{seeds.lstrip() + ' ' if seeds else ''}need",
        price,
        len(wanted.draws) * (max(wanted.values) if wanted.axis is Axis.SAMPLES else wanted.config.num_samples),
        f"{left} joint updates",
    )


def _stop(wanted: Plane) -> None:
    st.session_state["stopped"] = wanted


def _go_on() -> None:
    st.session_state.pop("stopped", None)
