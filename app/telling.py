"""Progress on a page, told as often as someone can read it."""

import time
from collections.abc import Callable

from streamlit.delta_generator import DeltaGenerator

from woodfisher_core.experiments.materials import Progress

# Each telling costs the server and the browser more than a small network's whole step.
TELL_SECONDS = 0.1


def telling(status: DeltaGenerator, words: Callable[[str, int, int], str]) -> Progress:
    """Shows in ``status`` a bar and ``words`` of what is done, but no more often than ``TELL_SECONDS``.

    A changed control ends the run of a page where it is told.
    """
    last = time.monotonic()

    def progress(phase: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TELL_SECONDS:
            last = now
            status.progress(done / total, text=words(phase, done, total))

    return progress
