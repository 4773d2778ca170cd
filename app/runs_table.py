"""The table of kept runs: filters above it, the settings that differ in it, and the runs that are ticked."""

import hashlib
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.binding import bound
from woodfisher_core.data.brought import DATA, WEIGHTS, title_of
from woodfisher_core.methods import METHODS
from woodfisher_core.models import MODELS
from woodfisher_core.store import Status, compare

WHOLE = (0.0, 1.0)
_BLANK = "Blank for another network or other data."


def filters(table: pd.DataFrame) -> pd.DataFrame:
    """The controls above the table; the runs they leave."""
    row = st.container(horizontal=True, vertical_alignment="bottom")

    def several(label: str, column: str, names: Sequence[str]) -> list[str]:
        present = set(table[column])
        return row.multiselect(
            label,
            [*(name for name in names if name in present), *sorted(present - set(names))],
            placeholder="all",
            width=230,
            **bound(f"runs-{column}"),
        )

    models = several("Network", "model", tuple(MODELS))
    methods = several("Method", "method", tuple(METHODS))
    statuses = several("Status", "status", [status.value for status in Status])
    text = row.text_input(
        "Name contains", width=200, help="Part of what stands in the column Name.", **bound("runs-name")
    )
    low, high = row.slider("Sparsity", *WHOLE, WHOLE, 0.01, width=230, **bound("runs-sparsity"))
    return compare.filtered(
        table,
        models=models,
        methods=methods,
        statuses=statuses,
        # The whole range asks nothing: runs that failed have no sparsity.
        sparsity=(None, None) if (low, high) == WHOLE else (low, high),
        text=text.strip(),
    )


def ticked(table: pd.DataFrame, baseline: pd.Series | None) -> pd.DataFrame:
    """Draws ``table``; the runs ticked in it, in its order."""
    every = st.toggle(
        "All settings",
        help="Otherwise only the settings in which these runs differ.",
        **bound("runs-all"),
    )
    shown = readable(table, every, baseline)
    order = hashlib.sha256(",".join(map(str, table["id"])).encode()).hexdigest()[:12]
    event = st.dataframe(
        shown,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        # Ticks are kept by position: other runs, other ticks.
        key=f"runs-{order}",
        column_config=_columns(shown),
        height=min(38 + 35 * max(1, len(shown)), 460),
    )
    rows = [row for row in event.selection.rows if row < len(table)]
    return table.iloc[sorted(rows)]


def readable(table: pd.DataFrame, every: bool, baseline: pd.Series | None) -> pd.DataFrame:
    """``table`` as it is shown: results, differences against the baseline, settings, when."""
    settings = compare.settings_of(table) if every else compare.differing(table)
    found = table if baseline is None else compare.against(table, baseline)
    shown = pd.DataFrame({"run": found["id"]})
    shown["name"] = compare.names(found)
    for name in compare.RESULTS:
        shown[name] = pd.to_numeric(found[name])
        if baseline is not None:
            shown[f"{name}_difference"] = found[f"{name}_difference"]
    if found["error"].notna().any():
        shown["error"] = found["error"].fillna("")
    for name in settings:
        numeric = pd.api.types.is_numeric_dtype(found[name]) and not pd.api.types.is_bool_dtype(found[name])
        shown[name] = found[name] if numeric else in_words(found[name])
    shown["kept"], shown["from"] = found["created"], found["origin"]
    if every:
        shown["key"] = found["key"].str[: compare.KEY_DIGITS]
    return shown


def in_words(setting: pd.Series) -> pd.Series:
    """A column of settings as people read it: what users brought goes by the names that they gave it."""
    kind, values = {"dataset": DATA, "weights": WEIGHTS}.get(setting.name), setting.map(compare.written)
    if kind is None:
        return values
    # Two of one name are told apart by their own.
    titles = {value: title_of(kind, value) for value in values.unique()}
    several = {title for title in titles.values() if list(titles.values()).count(title) > 1}
    return values.map(lambda value: f"{titles[value]} ({value})" if titles[value] in several else titles[value])


def _columns(shown: pd.DataFrame) -> dict[str, object]:
    number = st.column_config.NumberColumn
    known = {
        "run": number("Run", width=60, pinned=True),
        "name": st.column_config.TextColumn("Name", width=190),
        "accuracy": number("Accuracy (%)", format="%.2f", help="On the test images."),
        "loss": number("Loss (nats)", format="%.4f", help="Mean cross-entropy on the test images."),
        "sparsity": number("Sparsity", format="%.4f", help="Fraction of the prunable weights that is gone."),
        "accuracy_difference": number(
            "Δ accuracy", width=90, format="%+.2f", help=f"Percentage points over the baseline. {_BLANK}"
        ),
        "loss_difference": number(
            "Δ loss", width=90, format="%+.4f", help=f"Nats over the baseline; less is better. {_BLANK}"
        ),
        "sparsity_difference": number("Δ sparsity", width=90, format="%+.4f", help=f"Over the baseline. {_BLANK}"),
        "error": st.column_config.TextColumn("Error", width=130),
        "kept": st.column_config.DatetimeColumn("Kept", format="YYYY-MM-DD HH:mm", help="In your time zone."),
        "from": st.column_config.TextColumn("From", help="Where it was asked for."),
    }
    numeric = {
        # "plain" shows 1000 as 999.9999999999999.
        name: number(_heading(name), format="%d" if (shown[name].dropna() % 1 == 0).all() else "plain")
        for name in shown.select_dtypes("number").columns
        if name not in known
    }
    rest = {name: _heading(name) for name in shown.columns if name not in known and name not in numeric}
    return {**{name: column for name, column in known.items() if name in shown}, **numeric, **rest}


def _heading(name: str) -> str:
    """A setting's name in words: ``Damping scale``, ``Schedule: end epoch``."""
    words = name.replace("_", " ").replace(".", ": ")
    return words[:1].upper() + words[1:]
