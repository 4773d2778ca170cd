"""A plane that fills while one looks: it asks before long work, streams in, stops on one click and goes on on another.

Streamlit runs the page again on a click and ends the run before at its next ``st`` call, here the progress bar's after
each point. Every point is kept by then, so stopping loses nothing: the next run draws what there is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.asking import agree, agreed, go_button, say
from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.experiments.plane import computed, kept_plane, missing_points, plane
from woodfisher_core.options import Axis

# A filling plane is drawn again when a column is done, but no more often than this: each drawing costs the browser too.
REDRAW_SECONDS = 1.0


@dataclass(frozen=True)
class Plane:
    """Which plane: around which run, what varies, over which values."""

    config: PruneConfig
    axis: Axis
    values: tuple[int | str, ...]
    dampings: tuple[float, ...]

    @property
    def settings(self) -> tuple:
        """What its cost depends on: agreeing to one plane agrees to those that differ in nothing else."""
        same_cost = self.config.replace(sparsity=0.5, pattern=None, damping=1.0, scope="global")
        return ("plane", same_cost, self.config.pattern, self.axis, self.values, len(self.dampings))


def filled(space: Workspace, wanted: Plane, draw: Callable[[pd.DataFrame, str], None]) -> pd.DataFrame:
    """The table of ``wanted``, computed as far as it may be; ``draw(table, key)`` is called with it, also on the way."""
    parts = (space, wanted.config, wanted.axis, wanted.values, wanted.dampings)
    row = st.empty()
    table, missing = kept_plane(*parts), missing_points(*parts)
    price = cost.predict_points(space, missing)
    stopped = st.session_state.get("stopped") == wanted
    if missing and (stopped or not agreed(price, wanted.settings)):
        with row.container():
            _wait(wanted, len(table) - len(missing), len(table), price)
        if not computed(table).empty:
            draw(table, "partial")
        return table
    if missing:
        with row.container(horizontal=True, vertical_alignment="center"):
            bar = st.progress(0.0, text="Computing …")
            st.button("Stop here", icon=":material/stop:", key="stop", on_click=_stop, args=(wanted,))
        draw(table, "start")
        drawn, at = len(table) - len(missing), time.monotonic()
        reached = drawn / len(table)

        def progress(phase: str, done: int, total: int) -> None:
            nonlocal drawn, at, reached
            if phase != "plane":
                bar.progress(reached, text=f"{phase}: {done:,} of {total:,}")
                return
            reached = done / total
            bar.progress(reached, text=f"{done} of {total} settings computed. Stopping keeps them.")
            if done % len(wanted.dampings) == 0 and drawn < done < total and time.monotonic() - at > REDRAW_SECONDS:
                draw(kept_plane(*parts), f"after-{done}")
                drawn, at = done, time.monotonic()

        table = plane(*parts, progress)
        row.empty()
    draw(table, "done")
    return table


def _wait(wanted: Plane, done: int, total: int, price: cost.Cost) -> None:
    """Says how far the plane is and what the rest costs, with the button that goes on."""
    if done:
        st.markdown(f"**{done} of {total} settings computed.** They are kept; the others are blank below.")
    say(
        f"The {total - done if done else total} settings {'left ' if done else ''}need",
        price,
        max(wanted.values) if wanted.axis is Axis.SAMPLES else wanted.config.num_samples,
        f"{total - done} joint updates",
    )
    go_button("Continue" if done else "Compute it", "go-on", _go_on, wanted)


def _stop(wanted: Plane) -> None:
    st.session_state["stopped"] = wanted


def _go_on(wanted: Plane) -> None:
    st.session_state.pop("stopped", None)
    agree(wanted.settings)
