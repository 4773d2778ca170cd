"""Long work asks first: what it will cost is said before it runs, and it runs on a click."""

from collections.abc import Sequence

import streamlit as st

from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.memory import gib

# Work predicted to take longer than this waits for a click.
ASK_SECONDS = 10.0
# Work predicted to take less than this is not worth announcing.
INSTANT_SECONDS = 0.3


def ask_before_long_work(space: Workspace, configs: Sequence[PruneConfig], sparsities: Sequence[float]) -> str:
    """What to say while ``configs`` and their curves are computed, where that is quick, kept already, or agreed to.

    Otherwise shows the cost and stops the page until the click. The first config is the one in focus.
    """
    price = cost.predict(space, configs, sparsities)
    if price.seconds <= INSTANT_SECONDS:
        return "Computing …"
    announced = f"Computing: about {price.seconds:.1f} s and {gib(price.nbytes)} …"
    focus = configs[0]
    agreed = st.session_state.setdefault("agreed", set())
    settings = (
        *(focus.model, focus.num_samples, focus.block_size, focus.labels, focus.seed, focus.device),
        frozenset((config.method, config.update) for config in configs),
    )
    if price.seconds <= ASK_SECONDS or settings in agreed:
        return announced
    parts = [
        f"{text} ({seconds:.1f} s)"
        for text, seconds in (
            (f"gradients of {focus.num_samples:,} images", price.gradients),
            ("the inverse Fisher", price.inverse),
            (f"joint updates at {len(sparsities)} sparsities", price.joint),
        )
        if seconds > 0
    ]
    st.info(
        f"This setting needs about **{price.seconds:.0f} s** and **{gib(price.nbytes)}** of memory on this machine: "
        + ", then ".join(parts)
        + ".",
        icon=":material/timer:",
    )
    if not st.button("Compute it", type="primary", icon=":material/play_arrow:"):
        st.stop()
    agreed.add(settings)
    return announced
