"""The schedule and the training of a gradual run: their controls, and the config these make."""

import streamlit as st

from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.schedules import GradualSchedule

EPOCHS, LAST_STEP, MOST_EPOCHS = 10, 6, 100
# As everywhere in gradual pruning the schedule begins with a small first step.
FIRST_SPARSITY = 0.05
RATES = ("0.001", "0.003", "0.01", "0.03", "0.1")
BATCHES = (16, 32, 64, 128, 256, 512)


def schedule_controls(prune: PruneConfig) -> GradualConfig:
    """The schedule and the training that the controls say, for ``prune``."""
    bound = lambda key: {"key": key, "bind": "query-params"}  # noqa: E731
    with st.grid(6, min_column_width=140):
        epochs = st.number_input(
            "Epochs", 1, MOST_EPOCHS, EPOCHS, help="Passes over the data in all.", **bound("epochs")
        )
        for key in ("first", "last"):  # where fewer epochs are left than a link or an earlier choice says
            if st.session_state.get(key, 0) > epochs:
                st.session_state[key] = epochs
        last = st.number_input(
            "Last step in epoch",
            1,
            MOST_EPOCHS,
            min(LAST_STEP, epochs),
            help="$t_1$: the final sparsity is reached before this epoch's training. What comes after only trains.",
            **bound("last"),
        )
        first = st.number_input(
            "First step in epoch",
            1,
            MOST_EPOCHS,
            1,
            help="$t_0$: epochs before it train the dense network.",
            **bound("first"),
        )
        every = st.number_input(
            "Epochs a step", 1, MOST_EPOCHS, 1, help="How many epochs it trains from step to step.", **bound("every")
        )
        rate = st.select_slider(
            "Learning rate",
            RATES,
            "0.01",
            help="Of SGD with momentum 0.9; it falls along half a cosine.",
            **bound("rate"),
        )
        batch = st.select_slider("Batch size", BATCHES, 64, help="Images a step of SGD.", **bound("batch"))
    if prune.pattern is not None:
        st.caption(f"The pattern {prune.pattern} is reached in one step, before epoch {last}.")
    return gradual_config(prune, int(epochs), int(first), int(last), int(every), float(rate), int(batch))


def gradual_config(
    prune: PruneConfig, epochs: int, first: int, last: int, every: int, rate: float, batch: int
) -> GradualConfig:
    """The run of ``prune`` by such a schedule; a pattern is reached in one step."""
    final = prune.sparsity
    if prune.pattern is not None:
        schedule = GradualSchedule(initial=final, final=final, start_epoch=last, end_epoch=last)
    else:
        initial = FIRST_SPARSITY if final > FIRST_SPARSITY else 0.0
        schedule = GradualSchedule(initial=initial, final=final, start_epoch=first, end_epoch=last, frequency=every)
    tuning = FineTuning(learning_rate=rate, batch_size=batch)
    return GradualConfig(prune=prune, schedule=schedule, epochs=epochs, tuning=tuning)
