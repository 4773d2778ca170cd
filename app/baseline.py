"""The pinned run: named in the address by the beginning of its key, remembered from page to page, held against others."""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.binding import in_link
from app.shared import store
from app.words import percent, share
from woodfisher_core.data.brought import DATA, title_of
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.store import Store, compare

PARAMETER = "baseline"
_REMEMBERED = "pinned key"


@dataclass(frozen=True)
class Baseline:
    """The pinned run: its row in the table of runs (without its settings), and its curve (see ``compare.curve_table``)."""

    row: pd.Series
    points: pd.DataFrame

    @property
    def name(self) -> str:
        return compare.name_of(self.row)

    @property
    def place(self) -> str:
        """The network and the data, own data by the name that their user gave them."""
        return f"{self.row['model']} on {title_of(DATA, self.row['dataset'])}"

    def alike(self, config: PruneConfig) -> bool:
        """Whether ``config`` prunes the same network on the same data, so that a difference means something."""
        return (self.row["model"], self.row["dataset"]) == (config.model, config.dataset)


def pin(key: str) -> None:
    """Makes the run with this key the baseline, on every page."""
    st.session_state[_REMEMBERED] = key


def unpin() -> None:
    """No run is the baseline any more."""
    st.session_state.pop(_REMEMBERED, None)
    st.query_params.pop(PARAMETER, None)


def linked() -> dict[str, str]:
    """What a link to another page must say, so that the baseline stays."""
    key = st.session_state.get(_REMEMBERED)
    return {} if key is None else link_to(key)


def link_to(key: str) -> dict[str, str]:
    """The part of a link that names the run with this key as the baseline."""
    return {PARAMETER: key[: compare.KEY_DIGITS]}


def pinned(opened: Store) -> Baseline | None:
    """The baseline that the address or an earlier page names; None, said where the address is wrong, if there is none."""
    asked = st.query_params.get(PARAMETER, "").lower()
    remembered = st.session_state.get(_REMEMBERED, "")
    if not (wanted := remembered or asked):
        return None
    table = opened.runs(configurations=False)
    found = table[table["key"].str.startswith(wanted)] if len(wanted) >= compare.KEY_DIGITS else table.iloc[:0]
    if len(found) != 1:
        unpin()
        st.caption(f":material/keep_off: The baseline {wanted[: compare.KEY_DIGITS]} is not among the runs here.")
        return None
    row = found.iloc[0]
    pin(row["key"])
    in_link(PARAMETER, row["key"][: compare.KEY_DIGITS])
    metrics = opened.metrics([int(row["id"])])
    return Baseline(row, compare.curve_table(row.to_frame().T, metrics))


def quietly_pinned() -> Baseline | None:
    """:func:`pinned` for pages that are about something else: None where the store cannot be opened."""
    try:
        return pinned(store())
    except WoodFisherError:
        return None


def beside(baseline: Baseline, config: PruneConfig, key: str, sparsity: float, pruned: Evaluation) -> None:
    """What the run in focus gains over the baseline."""
    row = baseline.row
    if row["key"] == key:
        st.caption(f":material/keep: This is the baseline, **{baseline.name}**.")
        return
    if not baseline.alike(config):
        st.caption(f":material/keep: The baseline, **{baseline.name}**, is {baseline.place}: not compared.")
        return
    st.caption(f":material/keep: Against the baseline, **{baseline.name}**:")
    difference = compare.against(
        pd.DataFrame([{"accuracy": pruned.accuracy, "loss": pruned.loss, "sparsity": sparsity}]), row
    ).iloc[0]
    with st.grid(4, min_column_width=165):
        for label, name, form, theirs in (
            ("Accuracy over it", "accuracy", "+.2f", lambda x: f"it has {percent(x)}"),
            ("Loss over it", "loss", "+.3f", lambda x: f"it has {x:.3f}"),
            ("Sparsity over it", "sparsity", "+.2f", lambda x: f"it has {share(x, 1)}"),
        ):
            value = difference[f"{name}_difference"] * (100 if name == "sparsity" else 1)
            st.metric(
                label,
                "–" if pd.isna(value) else format(value, form),
                "it has none" if pd.isna(row[name]) else theirs(row[name]),
                delta_color="off",
                delta_arrow="off",
                help=f"The run in focus less the baseline, in {'nats' if name == 'loss' else 'percentage points'}.",
                border=True,
            )


def banner(baseline: Baseline) -> None:
    """The baseline on top of a page, with the button that lets go of it."""
    row = baseline.row
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="baseline-banner"):
        numbers = [] if pd.isna(row["accuracy"]) else [f"accuracy {percent(row['accuracy'])}"]
        numbers += [] if pd.isna(row["sparsity"]) else [f"sparsity {share(row['sparsity'], 1)}"]
        numbers += [] if pd.isna(row["loss"]) else [f"loss {row['loss']:.3f} nats"]
        st.markdown(f":material/keep: Baseline **{baseline.name}** · {baseline.place} · {', '.join(numbers)}")
        st.button("Unpin", icon=":material/keep_off:", key="unpin", on_click=unpin)
