"""Single weights on a page: choose them in a scatter or by a rule, see where they sit and what the update does to them."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st
from torch import Tensor

from app import charts
from app.binding import bound
from app.explain_weights import (
    moves_sentence,
    passed_sentence,
    pick_sentence,
    picture_sentence,
    scatter_sentence,
    views_sentence,
)
from app.facts import facts_of
from app.showing import show
from app.state import View
from woodfisher_core.experiments import Workspace, tables
from woodfisher_core.experiments.layer_pictures import Picture, input_views
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.weights import (
    MOST_PICKED,
    Pick,
    indexed,
    inverse_diagonal,
    parse_positions,
    picked,
    thinned,
    weight_table,
)
from woodfisher_core.masks import Mask
from woodfisher_core.methods import Outcome, get_method
from woodfisher_core.parameters import Layer, PrunableParameters

SCATTER, NUMBERS = "weights-scatter", "numbers"
COUNTS = (5, 10, 20, 50)
PICTURES = {
    "before": "weight before pruning",
    "after": "weight after pruning and update; blank: removed",
    "change": "change of the weight; blank: removed",
}


@dataclass(frozen=True)
class Rival:
    """The method that the one in focus is held against, and what it keeps."""

    name: str
    label: str
    mask: Mask


def rival_of(space: Workspace, view: View, others: list[str]) -> Rival | None:
    """Magnitude, which costs nothing; where that is in focus the first of ``others``, which have been computed."""
    focus = view.config.method
    name = "magnitude" if focus != "magnitude" else next((other for other in others if other != focus), None)
    return None if name is None else Rival(name, get_method(name).label, space.outcome(view.beside(name)).mask)


def weights_view(
    space: Workspace, view: View, problem: Problem, outcome: Outcome, layer: str | None, rival: Rival | None
) -> None:
    """Everything about single weights, of one layer or of all."""
    config, parameters = view.config, problem.parameters
    method = get_method(config.method)
    inverse = inverse_diagonal(space, config)
    other = None if rival is None else rival.mask.keep
    table = weight_table(parameters, problem.weights, outcome, other, inverse, layer)
    thresholds = tables.thresholds_by_layer(parameters, outcome.mask)
    found = indexed(_chosen(table, parameters, thresholds, method.label, rival, layer), parameters)

    grid = st.grid(2, min_column_width=440)
    with grid.cell():
        drawn = indexed(thinned(table, list(found["position"])), parameters)
        figure = charts.weight_scatter(
            drawn,
            method.unit,
            _common(thresholds, layer),
            "" if rival is None else rival.label,
            _rival_size(rival, view, parameters, layer),
            list(found["position"]),
        )
        curved = inverse is not None and not config.flops_power
        label = "" if rival is None else rival.label
        words = scatter_sentence(table, drawn, method.label, label, curved, layer is None)
        choice = {"on_select": choose_selected, "selection_mode": ("points", "box", "lasso")}
        show(figure, words, SCATTER, drawn, **choice)
    with grid.cell():
        if found.empty:
            st.markdown("**What does the update do to them?**")
            st.caption("No weights are chosen.")
        else:
            show(charts.weight_moves(found), moves_sentence(found), "weights-moves", data=found)
    at = _pictured(parameters, layer, found)
    shown = st.segmented_control(
        f"Colours in the picture of {at.module}",
        list(PICTURES),
        default="before",
        required=True,
        help="; ".join(f"**{name}**: {text}" for name, text in PICTURES.items()) + ".",
        **bound("picture"),
    )
    grid = st.grid(2, min_column_width=440)
    _pictures(problem, outcome, at, found, shown, grid)
    first = next((one for one in parameters.layers if one.module == facts_of(config.model).layers[0]), None)
    if first is not None and (layer is None or at is first):
        with grid.cell():
            _input_views(problem, outcome, first)
    with grid.cell():
        _table(found, method.unit)


def _chosen(table, parameters, thresholds, method: str, rival: Rival | None, layer: str | None) -> pd.DataFrame:
    """The controls that choose weights, and the rows they choose."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="weights-controls"):
        pick = Pick(
            st.segmented_control(
                "Which weights",
                [one.value for one in Pick],
                default=Pick.SAVED.value,
                required=True,
                help="\n\n".join(
                    f"**{one.value}**: {one.help}" + (f" ${one.equation}$" if one.equation else "") for one in Pick
                ),
                **bound("pick"),
            )
        )
        count = st.select_slider(
            "How many at most",
            COUNTS,
            value=20,
            help="Of those the rule beside it finds, the first ones.",
            width=150,
            **bound("many"),
        )
        text = st.text_input(
            "Or by their numbers",
            help=f"Each of the {parameters.num_prunable:,} prunable weights has one in the whole network, layer after layer, "
            f"from 0 on; at most {MOST_PICKED}. A click on a mark of the chart below writes its number here, a box or a lasso "
            "(its toolbar) those of all marks inside.",
            placeholder="12 345 678",
            width=240,
            **bound(NUMBERS),
        )
        numbers = parse_positions(text, parameters.num_prunable)
        if text:
            st.button("Forget the numbers", icon=":material/backspace:", key="forget-numbers", on_click=_forget)
    if text:
        found, pick = table[table["position"].isin(numbers.positions)], None
    else:
        found = picked(table, pick, thresholds, int(count))
    where = f"of {layer}" if layer else "of the network"
    words = pick_sentence(pick, found, method, "" if rival is None else rival.label, where)
    if text:
        elsewhere = [position for position in numbers.positions if position not in set(found["position"])]
        words += passed_sentence(numbers, parameters.num_prunable, elsewhere, layer)
    st.caption(words + st.session_state.pop("selected too many", ""))
    return found


def choose_selected() -> None:
    """Writes the numbers of the marks selected in the scatter into their control."""
    points = st.session_state[SCATTER].selection.points
    positions = list(dict.fromkeys(int(point["customdata"]) for point in points if "customdata" in point))
    if not positions:
        return
    if len(positions) > MOST_PICKED:
        st.session_state["selected too many"] = f" You selected {len(positions):,}; these are an even sample of them."
        positions = [positions[i] for i in np.linspace(0, len(positions) - 1, MOST_PICKED).round().astype(int)]
    st.session_state[NUMBERS] = " ".join(map(str, sorted(positions)))


def _forget() -> None:
    st.session_state[NUMBERS] = ""


def _common(thresholds: dict[str, float], layer: str | None) -> float | None:
    """The threshold of all that is drawn, where there is one."""
    if layer is not None:
        return thresholds[layer]
    values = set(thresholds.values())
    return values.pop() if len(values) == 1 else None


def _rival_size(rival: Rival | None, view: View, parameters: PrunableParameters, layer: str | None) -> float | None:
    """Where the rival's threshold is a size and stands alone, that size."""
    if rival is None or rival.name != "magnitude" or view.config.flops_power:
        return None
    return _common(tables.thresholds_by_layer(parameters, rival.mask), layer)


def _pictured(parameters: PrunableParameters, layer: str | None, found: pd.DataFrame) -> Layer:
    """The layer chosen; of all, the one that most of the chosen weights are in."""
    counts = found["layer"].astype(str).value_counts()
    name = layer or (counts.index[0] if len(counts) else parameters.modules[0])
    return next(one for one in parameters.layers if one.module == name)


def _pictures(problem: Problem, outcome: Outcome, layer: Layer, found: pd.DataFrame, shown: str, grid) -> None:
    """The layer's weights and its mask, the chosen ringed."""
    picture = Picture(layer)
    here = found[found["layer"] == layer.module]
    rings = picture.places(list(here["position"])) if len(here) else ((), ())
    ticks = (picture.ticks(0), picture.ticks(1))
    mask = picture.of_mask(outcome.mask.keep)
    kept = int(outcome.mask.keep[layer.slice].sum())
    with grid.cell():
        values: dict[str, Tensor] = {
            "before": problem.weights,
            "after": outcome.weights.masked_fill(~outcome.mask.keep, math.nan),
            "change": (outcome.weights - problem.weights).masked_fill(~outcome.mask.keep, math.nan),
        }
        weights = picture.of_weights(values[shown])
        figure = charts.layer_weights(weights, ticks, PICTURES[shown], rings, f"Where are they in {layer.module}?")
        show(figure, picture_sentence(picture, mask, layer, kept, len(here)), "layer-weights", data=weights)
    with grid.cell():
        words = f"Of {layer.module}, {kept:,} of {layer.numel:,} weights stay."
        show(charts.layer_mask(mask, ticks, rings), words, "layer-mask", data=mask)


def _input_views(problem: Problem, outcome: Outcome, layer: Layer) -> None:
    """What the neurons of the first layer look at."""
    shape = tuple(problem.test.inputs.shape[1:])
    views = input_views(layer, outcome.weights, outcome.mask.keep, shape)
    if views is None:
        st.caption(f"{layer.module} does not read images of the input, so that there is nothing to draw here.")
        return
    linear = len(layer.shape) == 2
    pixels = layer.shape[1] if linear else 0
    unread = int((~outcome.mask.keep[layer.slice].view(layer.shape)).all(0).sum()) if linear else 0
    figure = charts.input_images(views.picture, views.neurons)
    show(figure, views_sentence(views, layer, unread, pixels), "input-views", data=views.neurons)


def _table(found: pd.DataFrame, unit: str) -> None:
    """The chosen weights in numbers."""
    st.markdown("**The chosen weights in numbers**")
    columns = {
        "position": st.column_config.NumberColumn("number", help="Its number in the whole network, layer after layer."),
        "before": st.column_config.NumberColumn("w before", format="%.4f"),
        "after": st.column_config.NumberColumn("w after", format="%.4f"),
        "change": st.column_config.NumberColumn("change", format="%+.4f"),
        "statistic": st.column_config.NumberColumn(f"statistic ({unit})", format="%.2e"),
        "inverse": st.column_config.NumberColumn("[F⁻¹]ⱼⱼ", format="%.3e"),
        "kept": st.column_config.CheckboxColumn("kept"),
        "rival": st.column_config.CheckboxColumn("kept by the rival"),
    }
    st.dataframe(found, hide_index=True, column_config=columns, height=330, key="weights-table")
    st.download_button(
        "weights.csv", found.to_csv(index=False), "weights.csv", "text/csv", on_click="ignore", key="csv-weights"
    )
