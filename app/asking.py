"""Long work asks first: what it will cost is said before it runs, and it runs on a click."""

import os
from collections.abc import Callable, Hashable, Sequence

import streamlit as st

from woodfisher_core.experiments import PruneConfig, Workspace, cost
from woodfisher_core.memory import gib

# Work predicted to take longer than this waits for a click; a long plane is a job then.
ASK_SECONDS = float(os.environ.get("WOODFISHER_ASK_SECONDS", "10"))
# Work predicted to take less than this is not worth announcing, nor naming among the parts of a cost.
INSTANT_SECONDS = 0.3


def ask_before_long_work(space: Workspace, configs: Sequence[PruneConfig], sparsities: Sequence[float]) -> str:
    """What to say while ``configs`` and their curves are computed, where that is quick, kept already, or agreed to.

    Otherwise shows the cost and stops the page until the click. The first config is the one in focus.
    """
    price = cost.predict(space, configs, sparsities)
    if not may_go_on(price, configs, sparsities):
        st.stop()
    return announcement(price)


def may_go_on(
    price: cost.Cost, configs: Sequence[PruneConfig], sparsities: Sequence[float], subject: str = "This setting needs"
) -> bool:
    """Whether ``configs`` and their curves, of this ``price``, may be computed; else shows the cost and a button here."""
    focus = configs[0]
    settings = (
        *(focus.model, focus.dataset, focus.exclude, focus.num_samples, focus.block_size, focus.labels, focus.seed),
        *(focus.device, focus.stages, focus.images, focus.batchnorm_images),
        frozenset((config.method, config.update) for config in configs),
        subject,
    )
    if price.seconds <= INSTANT_SECONDS or agreed(price, settings):
        return True
    say(subject, price, focus.num_samples, f"joint updates at {len(sparsities)} sparsities")
    go_button("Compute it", "compute", agree, settings)
    return False


def announcement(price: cost.Cost) -> str:
    """What to say while something of this price is computed."""
    if price.seconds <= INSTANT_SECONDS:
        return "Computing …"
    return f"Computing: about {price.seconds:.1f} s and {gib(price.nbytes)} …"


def agreed(price: cost.Cost, settings: Hashable) -> bool:
    """Whether work of this price may run at once: it is quick, or someone has agreed to work of these ``settings``."""
    return price.seconds <= ASK_SECONDS or settings in st.session_state.setdefault("agreed", set())


def agree(settings: Hashable) -> None:
    """Work of these ``settings`` asks no more."""
    st.session_state.setdefault("agreed", set()).add(settings)


def go_button(label: str, key: str, action: Callable[..., None], *arguments: object) -> None:
    """The button under a cost; its click calls ``action`` before the page runs again, then without the question."""
    icon = ":material/play_arrow:"
    st.button(label, type="primary", icon=icon, key=key, on_click=action, args=arguments)


def say(subject: str, price: cost.Cost, rows: int, joint: str) -> None:
    """Shows the cost and its parts; ``subject`` begins the sentence, ``joint`` names the joint updates."""
    parts = [
        f"{text} ({seconds:.1f} s)"
        for text, seconds in (
            (f"gradients of {rows:,} images", price.gradients),
            ("the inverse Fisher", price.inverse),
            (joint, price.joint),
            ("the pruned networks", price.networks),
        )
        if seconds > INSTANT_SECONDS
    ]
    st.info(
        f"{subject} about **{price.seconds:.0f} s** and **{gib(price.nbytes)}** of memory on this machine"
        + (": " + ", then ".join(parts) if parts else "")
        + ".",
        icon=":material/timer:",
    )
