"""All jobs of the run store, whoever asked for them: those under way with their progress, and how the last ones ended."""

import time
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from app.jobs import POLL_SECONDS, cancel, progress, queue
from app.shared import store
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.jobs import Job
from woodfisher_core.jobs.kinds import parts_words
from woodfisher_core.jobs.starting import ensure_worker

# While parts are finished the whole page, with its table of runs, is drawn again so often.
REFRESH_SECONDS = 5.0
# How many finished ones are listed; `jobs list` shows all.
SHOWN = 20


def job_list() -> None:
    """An expander, open while something is under way; absent where nobody ever asked for a job."""
    found = queue().jobs()
    if not found:
        return
    under_way = [job for job in found if not job.over]
    finished, begun = sum(job.done for job in under_way), time.monotonic()
    title = f"{len(under_way)} under way or waiting" if under_way else "nothing under way"
    with st.expander(f"Jobs: {title}", icon=":material/pending_actions:", expanded=bool(under_way)):

        @st.fragment(run_every=POLL_SECONDS if under_way else None)
        def live() -> None:
            try:
                now = [job for job in queue().jobs() if not job.over]
                if now:
                    ensure_worker(store())
            except WoodFisherError as error:
                st.error(str(error), icon=":material/error:")
                return
            # Another job, or new runs in the table above.
            if {job.number for job in now} != {job.number for job in under_way} or (
                sum(job.done for job in now) != finished and time.monotonic() - begun > REFRESH_SECONDS
            ):
                st.rerun()
            for job in now:
                _line(job)

        live()
        over = [job for job in found if job.over]
        if over:
            shown = over[:SHOWN]
            st.dataframe(_table(shown, queue().failed_parts([job.number for job in shown])), hide_index=True)
            if len(over) > SHOWN:
                st.caption(f"The last {SHOWN} of {len(over):,}; all of them: `python -m woodfisher_core jobs list`.")


def _line(job: Job) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        progress(job, job.title)
        st.button("Stop", icon=":material/stop:", key=f"stop-job-{job.number}", on_click=cancel, args=(job.number,))


def _table(jobs: list[Job], failed: dict[int, int]) -> pd.DataFrame:
    """``failed`` says how many parts of a job ended in an error."""
    return pd.DataFrame(
        [
            {
                "job": job.title,
                "ended as": job.status.label,
                "parts": parts_words(job) + (f", {failed[job.number]:,} failed" if job.number in failed else ""),
                "asked for by": job.origin,
                "ended": None if job.finished is None else datetime.fromtimestamp(job.finished, UTC),
                "what went wrong": job.error or "",
            }
            for job in jobs
        ]
    )
