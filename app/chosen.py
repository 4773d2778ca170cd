"""What can be done with ticked runs: open, name, pin, delete, and look at them side by side."""

import json

import pandas as pd
import streamlit as st

from app import charts
from app.attempts import attempt
from app.baseline import link_to, linked, pin
from app.explain_runs import curve_sentence, layers_sentence
from app.linking import gradual_link_of, link_of, lost_sentence
from app.runs_table import in_words
from app.showing import show
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.kinds import parse_config
from woodfisher_core.store import RunRecord, Store, compare

EXPLORE_PAGE, GRADUAL_PAGE = "app_pages/explore.py", "app_pages/gradual.py"
MOST_DRAWN = 5
JUST_DELETED = "just deleted"


def chosen(opened: Store, runs: pd.DataFrame) -> None:
    """Everything below the table, for the runs that are ticked in it."""
    if runs.empty:
        st.caption("Tick one run to open, name or pin it, and two to five to see them side by side.")
        return
    if len(runs) == 1:
        one(opened, runs.iloc[0])
    else:
        st.subheader(f"{len(runs)} runs side by side" if len(runs) <= MOST_DRAWN else f"{len(runs)} runs")
        _delete_button(opened, runs)
    if len(runs) > MOST_DRAWN:
        st.caption(f"Tick at most {MOST_DRAWN} to see them side by side.")
        return
    if len(runs) > 1:
        side_by_side(runs)
    drawn(opened, runs)


def one(opened: Store, run: pd.Series) -> None:
    """One run: its name, its error, its buttons, its settings."""
    st.subheader(compare.name_of(run))
    if not compare.missing(run["error"]):
        st.error(str(run["error"]), icon=":material/error:")
    record = opened.get(int(run["id"]))
    words = ""
    with st.container(horizontal=True, vertical_alignment="center", key="one-run"):
        words = _page_link(record)
        if linked() != link_to(record.key):
            st.button("Pin as baseline", icon=":material/keep:", key="pin", on_click=pin, args=(record.key,))
        _delete_button(opened, run.to_frame().T)
        # Another run, another field.
        with (
            st.popover("Rename", icon=":material/edit:", key=f"naming-{run['id']}"),
            st.form(f"name-{run['id']}", border=False),
        ):
            label = st.text_input("Name", record.label, max_chars=120, key=f"label-{run['id']}")
            if st.form_submit_button("Save the name"):
                opened.rename(int(run["id"]), label.strip())
                st.rerun()
    if words:
        st.caption(words)
    with st.expander("Its settings", icon=":material/tune:"):
        st.code(json.dumps(dict(record.config), indent=1), language="json", wrap_lines=True)
        st.caption(f"run {record.key[: compare.KEY_DIGITS]} · kept from {record.origin or 'nowhere named'}")


def _page_link(record: RunRecord) -> str:
    """The link that opens a run on its own page; what must be said about it."""
    gradual = record.kind == GradualConfig.kind
    page, name = (GRADUAL_PAGE, "Gradual") if gradual else (EXPLORE_PAGE, "Explore")
    try:
        config = parse_config(record.kind, record.config)
        query, lost = gradual_link_of(config) if gradual else link_of(config)
    except WoodFisherError as error:
        return f"{name} cannot open it. {error}"
    icon = ":material/stairs:" if gradual else ":material/explore:"
    st.page_link(page, label=f"Open in {name}", icon=icon, query_params={**query, **linked()})
    return lost_sentence(lost, name)


def _delete_button(opened: Store, runs: pd.DataFrame) -> None:
    numbers = [int(number) for number in runs["id"]]
    st.button(
        "Delete" if len(numbers) == 1 else f"Delete these {len(numbers)}",
        icon=":material/delete:",
        key="delete",
        on_click=attempt,
        args=(_delete, opened, numbers),
    )


def _delete(opened: Store, numbers: list[int]) -> None:
    opened.delete(numbers)
    st.session_state[JUST_DELETED] = numbers


def side_by_side(runs: pd.DataFrame) -> None:
    """What tells these runs apart, a column a run."""
    settings = compare.differing(runs)
    forms = {"accuracy": "{:.2f} %", "loss": "{:.4f} nats", "sparsity": "{:.4f}"}
    rows = {name: [_written(value, form) for value in runs[name]] for name, form in forms.items()}
    rows |= {name.replace("_", " "): in_words(runs[name]).tolist() for name in settings}
    columns = [compare.name_of(run) for _, run in runs.iterrows()]
    # Two runs may have been given one name.
    columns = [f"{c} (#{n})" if columns.count(c) > 1 else c for c, n in zip(columns, runs["id"], strict=True)]
    st.table(pd.DataFrame.from_dict(rows, orient="index", columns=columns))
    if not settings:
        st.caption("They differ in no setting.")


def _written(value: object, form: str) -> str:
    return "–" if compare.missing(value) else form.format(value)


def drawn(opened: Store, runs: pd.DataFrame) -> None:
    """Their curves and their layers."""
    numbers = [int(number) for number in runs["id"]]
    points = compare.curve_table(runs, opened.metrics(numbers))
    layers = compare.layers_table(runs, opened.layers(numbers))
    grid = st.grid(2, min_column_width=440)
    if len(points):
        with grid.cell():
            show(charts.runs_curve(points), curve_sentence(points), "runs-curve", data=points)
    if len(layers):
        with grid.cell():
            show(charts.runs_layers(layers), layers_sentence(layers), "runs-layers", data=layers)
