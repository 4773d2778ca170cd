"""Long work asks first: what it will cost is said before it runs, and it runs on a click."""

import streamlit as st

from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.memory import gib

# Work predicted to take longer than this waits for a click.
ASK_SECONDS = 10.0


def ask_before_long_work(space: Workspace, config: PruneConfig) -> str:
    """What to say while ``config`` is computed, where it is quick, kept already, or agreed to.

    Otherwise shows its cost and stops the page until the click.
    """
    if space.ready(config):
        return "Computing …"
    price = cost.predict(space, config)
    announced = f"Computing: about {price.seconds:.1f} s and {gib(price.nbytes)} …"
    if price.seconds <= ASK_SECONDS:
        return announced
    agreed = st.session_state.setdefault("agreed", set())
    settings = (config.model, config.num_samples, config.block_size, config.labels, config.seed, config.device)
    if settings in agreed:
        return announced
    st.info(
        f"This setting needs about **{price.seconds:.0f} s** and **{gib(price.nbytes)}** of memory on this machine: "
        f"gradients of {config.num_samples:,} images ({price.gradients:.1f} s), then the inverse Fisher "
        f"({price.inverse:.1f} s).",
        icon=":material/timer:",
    )
    if not st.button("Compute it", type="primary", icon=":material/play_arrow:"):
        st.stop()
    agreed.add(settings)
    return announced
