"""Take home: what a setting gave, as files; each is made when its button is clicked, and not before."""

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.report import smaller_network, to_json
from woodfisher_core.experiments.speed import pruned_network
from woodfisher_core.export import (
    HOW_TO_INSTALL,
    command_line,
    masks_bytes,
    notebook_bytes,
    onnx_bytes,
    onnx_missing,
    pruned_bytes,
    run_bytes,
    smaller_bytes,
)
from woodfisher_core.methods import get_method

SAFETENSORS, ONNX, JSON, NOTEBOOK = (
    "application/octet-stream",
    "application/octet-stream",
    "application/json",
    "application/x-ipynb+json",
)


def take_home(config: PruneConfig, space: Workspace, beside: Sequence[str], batch: int | None = None) -> None:
    """The expander with all downloads of ``config``.

    ``beside`` names the methods that its notebook draws next to it; with a ``batch`` of images it measures the speed as well.
    """
    stem = f"{config.model}-{config.method}-{config.sparsity:g}"
    with st.expander("Take home: the pruned network, its masks, ONNX, a notebook", icon=":material/download:"):
        st.caption(
            "Each file is made when you click. The weights and masks open with `safetensors`; their metadata hold the run. "
            f"Zeros are stored as numbers: a .zip of the file is small. Run {space.resolve(config).key[:12]}."
        )
        with st.container(horizontal=True, key="take-home"):
            for label, name, mime, make, words in files(config, space, beside, batch):
                missing = onnx_missing() if name == "onnx" else ()
                st.download_button(
                    label,
                    make,
                    f"{stem}.{name}",
                    mime,
                    on_click="ignore",
                    key=f"take-{name}",
                    disabled=bool(missing),
                    help=f"Needs {' and '.join(missing)}: `{HOW_TO_INSTALL}`" if missing else words,
                    width="content",
                )
        if missing := onnx_missing():
            st.caption(
                f":material/block: ONNX: {' and '.join(missing)} not installed where this page runs. In the project's folder: "
                f"`{HOW_TO_INSTALL}`."
            )
        st.markdown(
            "The same run on the command line; with `--output DIR` it keeps the pruned network with its masks, and the run as "
            "JSON."
        )
        st.code(command_line(config), language="bash", wrap_lines=True)


def files(
    config: PruneConfig, space: Workspace, beside: Sequence[str], batch: int | None = None
) -> list[tuple[str, str, str, Callable[[], bytes], str]]:
    """(label, end of the file's name, type, what makes it, what it is) of every file of ``config``."""
    removes = get_method(config.method).removes_channels
    found = [
        (
            "Pruned network",
            "safetensors",
            SAFETENSORS,
            lambda: _pruned(config, space),
            "All tensors of the network, pruned, with the masks under `<name>.mask`.",
        ),
        (
            "Masks",
            "masks.safetensors",
            SAFETENSORS,
            lambda: _masks(config, space),
            "Which weights stay: true or false.",
        ),
        (
            "ONNX",
            "onnx",
            ONNX,
            lambda: _onnx(config, space),
            "For other engines: any number of images in, logits out. "
            + ("Without the channels that went." if removes else "The zeros are in it as numbers."),
        ),
        ("Run (JSON)", "run.json", JSON, lambda: run_bytes(_run(config, space)), "Settings and results of this run."),
        (
            "Notebook",
            "ipynb",
            NOTEBOOK,
            lambda: _notebook(config, space, beside, batch),
            "Computes this setting again and draws its charts, with the same code.",
        ),
    ]
    if removes:
        smaller = (
            "Smaller network",
            "smaller.safetensors",
            SAFETENSORS,
            lambda: _smaller(config, space),
            "Without the channels that went; the shapes say how many are left.",
        )
        found.insert(1, smaller)
    # In turn: the network is shared, and whoever runs it has other weights in it meanwhile.
    return [(label, name, mime, partial(_in_turn, space, make), words) for label, name, mime, make, words in found]


def _in_turn(space: Workspace, make: Callable[[], bytes]) -> bytes:
    with space.cache.computing:
        return make()


def _run(config: PruneConfig, space: Workspace) -> dict[str, object]:
    report = space.report(config)
    return to_json(report, None, smaller_network(report))


def _pruned(config: PruneConfig, space: Workspace) -> bytes:
    problem, outcome = space.problem(config), space.outcome(config)
    state = problem.model.state_dict()
    return pruned_bytes(
        state, problem.parameters, outcome.weights, outcome.mask.keep, _run(config, space), outcome.tensors
    )


def _masks(config: PruneConfig, space: Workspace) -> bytes:
    return masks_bytes(space.problem(config).parameters, space.outcome(config).mask.keep, _run(config, space))


def _smaller(config: PruneConfig, space: Workspace) -> bytes:
    return smaller_bytes(smaller_network(space.report(config)).state_dict(), _run(config, space))


def _onnx(config: PruneConfig, space: Workspace) -> bytes:
    network = smaller_network(space.report(config)) or pruned_network(space, config)
    return onnx_bytes(network, space.problem(config).test.inputs)


def _notebook(config: PruneConfig, space: Workspace, beside: Sequence[str], batch: int | None) -> bytes:
    pruned, mask = space.evaluation(config), space.outcome(config).mask
    shown = {"accuracy (%)": pruned.accuracy, "test loss (nats)": pruned.loss, "weights kept": mask.kept}
    return notebook_bytes(space.resolve(config), shown, beside, batch=batch)
