"""The schedule and the training of a gradual run: their controls, and the config these make."""

import streamlit as st

from app.binding import bound
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.schedules import CUBIC, GradualSchedule

EPOCHS, LAST_STEP, MOST_EPOCHS = 10, 6, 100
# As everywhere in gradual pruning the schedule begins with a small first step.
FIRST_SPARSITY = 0.05
# How the sparsity rises: the degree p of the schedule.
RISES = {"cubic": CUBIC, "straight": 1.0}
RATES = ("0.001", "0.003", "0.01", "0.03", "0.1")
BATCHES = (16, 32, 64, 128, 256, 512)


def schedule_controls(prune: PruneConfig) -> GradualConfig:
    """The schedule and the training that the controls say, for ``prune``."""
    with st.grid(4, min_column_width=150):
        epochs = st.number_input(
            "Epochs", 1, MOST_EPOCHS, EPOCHS, help="$T$: passes over the data in all.", **bound("epochs")
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
        rise = st.segmented_control(
            "Rise",
            list(RISES),
            default="cubic",
            required=True,
            disabled=prune.pattern is not None,
            help=r"$s_t = s_f - (s_f - s_i)\left(1 - \frac{t - t_0}{t_1 - t_0}\right)^p$. **cubic**: $p = 3$, fast at first and "
            "slowly at the end; the paper's. **straight**: $p = 1$, as much in every step.",
            **bound("rise"),
        )
        rate = st.select_slider(
            "Learning rate",
            RATES,
            "0.01",
            help=r"$\eta$ of SGD with momentum 0.9; it falls along half a cosine, "
            r"$\eta_t=\tfrac{\eta}{2}\left(1+\cos\frac{\pi(t-1)}{T}\right)$.",
            **bound("rate"),
        )
        batch = st.select_slider("Batch size", BATCHES, 64, help="Images a step of SGD.", **bound("batch"))
    if prune.pattern is not None:
        st.caption(f"The pattern {prune.pattern} is reached in one step, before epoch {last}.")
    return gradual_config(
        prune, int(epochs), int(first), int(last), int(every), float(rate), int(batch), degree=RISES[rise]
    )


def gradual_config(
    prune: PruneConfig,
    epochs: int,
    first: int,
    last: int,
    every: int,
    rate: float,
    batch: int,
    degree: float = CUBIC,
) -> GradualConfig:
    """The run of ``prune`` by such a schedule; a pattern is reached in one step."""
    final = prune.sparsity
    if prune.pattern is not None:
        schedule = GradualSchedule(initial=final, final=final, start_epoch=last, end_epoch=last)
    else:
        initial = FIRST_SPARSITY if final > FIRST_SPARSITY else 0.0
        schedule = GradualSchedule(
            initial=initial, final=final, start_epoch=first, end_epoch=last, frequency=every, degree=degree
        )
    tuning = FineTuning(learning_rate=rate, batch_size=batch)
    return GradualConfig(prune=prune, schedule=schedule, epochs=epochs, tuning=tuning)
