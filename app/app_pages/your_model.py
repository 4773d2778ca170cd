"""Your model: what about my own network? Weights and images come in, are checked, and every page works on them."""

import streamlit as st

from app import charts
from app.explain import write_notes
from app.explain_own import confusion_sentence, finding, warning
from app.going import go_to
from app.opening import opened
from app.showing import show
from app.uploading import bring, kept_here
from woodfisher_core.data.brought import DATA, WEIGHTS, is_own
from woodfisher_core.errors import WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.models.base import SHIPPED
from woodfisher_core.own.checking import confusion_table, verdict
from woodfisher_core.own.dataset import written
from woodfisher_core.own.incoming import found_again


def page() -> None:
    # The fields come first: what they bring is chosen in the sidebar, and they are there even where a link names what is not.
    head, fields, kept, body = st.container(), st.container(), st.container(), st.container()
    with fields:
        bring()
    with kept:
        kept_here()
    with head:
        view, notes, space, status = opened(
            "What about my own network?",
            "Bring trained weights, images, or both. Weights alone are tried on the network's own data, data alone with the "
            "weights that ship here. A file is checked before anything in it is believed, and no program in it ever runs. Then "
            "every page works on it.",
        )
    with body:
        known(view.config, space)
    write_notes(notes, space, view, space.outcome(view.config))
    status.caption("Up to date.")


def known(config: PruneConfig, space: Workspace) -> None:
    """How well the chosen network knows the chosen data."""
    problem = space.problem(config)
    classes = problem.dataset.classes
    found = verdict(problem.dense, len(classes))
    weights = None if config.weights == SHIPPED else found_again(WEIGHTS, config.weights).label
    data = found_again(DATA, config.dataset).label if is_own(config.dataset) else None
    st.subheader("Does it know the data?")
    st.markdown(finding(found, len(problem.test), weights, data))
    if words := warning(found, classes, problem.broken_batchnorm):
        st.warning(words, icon=":material/warning:")
    with st.container(horizontal=True):
        go_to("Prune it in Explore", "explore", {name: st.query_params.get_all(name) for name in st.query_params})
    with st.grid(2, min_column_width=440) as grid:
        with grid.cell():
            table = confusion_table(problem.dense, classes)
            show(charts.confusion(table), confusion_sentence(table), "confusion", table)
        with grid.cell():
            st.markdown("**What is it made of?**")
            st.table(facts(config, space))


def facts(config: PruneConfig, space: Workspace) -> dict[str, str]:
    """What the network and the data are."""
    problem = space.problem(config)
    split = problem.dataset.train
    channels, height, width = split.images.shape[1:]
    return {
        "Network": config.model,
        "Weights that can be pruned": f"{problem.parameters.num_prunable:,} in {len(problem.parameters.layers)} layers",
        "Weights' sha256": f"{problem.weights_hash[:12]}…",
        "Images": f"{channels}×{height}×{width} (channels, height, width)",
        "To train on, to test on": f"{len(problem.dataset.train):,}, {len(problem.dataset.test):,}",
        "Normalised by": f"mean {written(split.mean)}, standard deviation {written(split.std)}",
        "Classes": f"{len(problem.dataset.classes)}",
        "Data's sha256": f"{problem.dataset.hash[:12]}…",
    }


try:
    page()
except WoodFisherError as error:
    st.error(str(error), icon=":material/error:")
