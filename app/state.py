"""Widgets to frozen config, and back through the URL: each control is bound to a query parameter of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator

from app.binding import NOTE, bound, class_mode
from app.facts import Facts, facts_of
from app.own_choice import weights_and_data
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.methods import METHODS, Method, get_method
from woodfisher_core.models import MODELS, get_model
from woodfisher_core.options import (
    BLOCK_LAYER,
    BLOCK_NETWORK,
    Budget,
    DampingScale,
    Labels,
    Scope,
    Solver,
    StageShape,
    Update,
)

AUTO = "auto"
SAMPLE_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
DEFAULT_DAMPING = "1e-3"
# Relative: from 1e-5 on, trace F / λ stays below what float64 bears up to half a million weights; 1e3 is nearly magnitude.
DAMPINGS = {
    scale: (*(f"{digit}e{power}" for power in range(lowest, lowest + 8) for digit in (1, 3)), f"1e{lowest + 8}")
    for scale, lowest in ((DampingScale.ABSOLUTE, -8), (DampingScale.RELATIVE, -5))
}
PATTERNS = ("none", "2:4", "4:8", "1:4")
STAGES = (1, 2, 4, 8, 16)
FLOPS_POWERS = (0.0, 0.1, 0.3, 0.5, 1.0)
TEST_COUNTS = ("200", "500", "1000", "2000", "5000")
IMAGE_COUNTS = ("all", "10", "20", "50", "100", "200", "500", "1000", "2000", "5000")
BATCHNORM_COUNTS = (0, 1, 10, 100, 500, 1000, 2000)
# Drawn beside the method in focus where nobody says otherwise.
BESIDE = ("magnitude", "diagonal-fisher", "woodfisher")
BLOCK_SIZES = ("1", "10", "50", "100", "500", "1000", "2000")


@dataclass(frozen=True)
class View:
    """What the controls say: the run in focus, and the methods drawn beside it."""

    config: PruneConfig
    compared: tuple[str, ...]

    def beside(self, method: str) -> PruneConfig:
        """The same setting with ``method`` and its own default update; the run in focus for its own method."""
        if method == self.config.method:
            return self.config
        return self.config.replace(method=method, update=None, update_scale=1.0)

    def label(self, method: str) -> str:
        """The method's label, with its update where it has one."""
        update = self.beside(method).update
        return get_method(method).label + (f", {update} update" if update is not Update.NONE else "")


@dataclass(frozen=True)
class Notes:
    """Places under the controls for numbers that are known only after the run."""

    samples: DeltaGenerator
    damping: DeltaGenerator
    block: DeltaGenerator
    sparsity: DeltaGenerator


def _fit(key: str, options: Sequence, fallback: object) -> None:
    """Where the control holds a value another network allowed and this one does not, takes ``fallback``, in the link too."""
    if key in st.session_state and st.session_state[key] not in options:
        st.session_state[key] = fallback


def controls(only: str | None = None) -> tuple[View, Notes]:
    """Draws the sidebar; returns what it says and where its live notes go.

    ``only`` fixes the method; its own control and the one that compares methods are then left out.
    """
    with st.sidebar:
        st.subheader("Network")
        network, facts = _network()
        st.subheader("Pruning")
        chosen = get_method(_method(facts, only))
        patterned = not chosen.chooses and (
            st.session_state.get("pattern", st.query_params.get("pattern", "none")) != "none"
        )
        pruning, note_sparsity = _pruning(chosen, patterned)
        compared = [only] if only else _beside(facts)
        more = _more(facts, chosen, patterned)
        st.subheader("Fisher")
        fisher, notes = _fisher(facts)
        st.subheader("Run")
        run = _run(facts)
    # What is greyed out for a method that chooses by itself keeps its value, for when another one is in focus again.
    pattern = None if more["pattern"] == "none" or chosen.chooses else more["pattern"]
    instead = {"sparsity": None, "budget": Budget.WEIGHTS, "scope": Scope.GLOBAL, "stages": 1} if pattern else {}
    most = fisher["images"] or facts.train_size
    settled = {
        "pattern": pattern,
        "flops_power": 0.0 if chosen.chooses else more["flops_power"],
        "batchnorm_images": min(more["batchnorm_images"], most),
        "solver": Solver.SPECTRAL,
    }
    config = PruneConfig(**{**network, "method": chosen.name, **pruning, **more, **fisher, **run, **settled, **instead})
    return View(config, _drawn(config, compared)), Notes(sparsity=note_sparsity, **notes)


def _drawn(config: PruneConfig, compared: Sequence[str]) -> tuple[str, ...]:
    """The methods drawn, in the registry's order: the one in focus, and of those compared with it who can do the same."""
    # Methods that choose by themselves know no pattern and no weighting: they stand aside then.
    own_masks = config.pattern is not None or config.flops_power > 0
    able = [
        name
        for name in METHODS
        if config.budget in get_method(name).budgets
        and config.scope in get_method(name).scopes
        and not (own_masks and get_method(name).chooses)
    ]
    return tuple(name for name in able if name in compared or name == config.method)


def _network() -> tuple[dict[str, object], Facts]:
    """(fields of a config, what the other controls must know of the network)."""
    model = st.selectbox(
        "Network",
        list(MODELS),
        help="All networks come trained. The digits networks need no download; MLPNet reads MNIST. Your own weights and "
        "data come in on the page Your model.",
        label_visibility="collapsed",
        **bound("model"),
    )
    weights, dataset = weights_and_data(get_model(model))
    facts = facts_of(model, dataset)
    return {"model": model, "weights": weights, "dataset": dataset}, facts


def _method(facts: Facts, only: str | None) -> str:
    """The method in focus, explained."""
    if only is None:
        _fit("method", facts.methods, "woodfisher")
    method = only or st.selectbox(
        "Method in focus",
        list(facts.methods),
        index=facts.methods.index("woodfisher"),
        help="The statistic that ranks the weights; the lowest go first. "
        + " ".join(f"**{name}**: ${get_method(name).equation}$." for name in facts.methods),
        **bound("method"),
    )
    chosen = get_method(method)
    st.caption(f"{chosen.label}: ${chosen.equation}$. {chosen.help} ({chosen.reference}; takes ${chosen.cost}$.)")
    return method


def _pruning(chosen: Method, patterned: bool) -> tuple[dict[str, object], DeltaGenerator]:
    """(fields of a config, the place for a note below the sparsity)."""
    sparsity = st.slider(
        "Sparsity",
        0.0,
        0.99,
        0.8,
        0.01,
        disabled=patterned,
        help="The fraction of the prunable weights (Linear and Conv weights, no biases) that is set to zero, or of their "
        "multiply-adds where those are counted. A pattern has its own.",
        **bound("sparsity"),
    )
    note_sparsity = st.container(key=f"{NOTE}sparsity")
    by_flops = st.session_state.get("budget", st.query_params.get("budget")) == Budget.FLOPS.value
    scopes = [s.value for s in chosen.scopes if not (by_flops and s is Scope.ERK)]
    _fit("scope", scopes, Scope.GLOBAL.value)
    scope = st.segmented_control(
        "Scope of the threshold",
        scopes,
        default=Scope.GLOBAL.value,
        required=True,
        disabled=patterned,
        help=" ".join(f"**{s.value}**: {s.help}" for s in Scope),
        **bound("scope"),
    )
    _fit("update", [AUTO, *(u.value for u in chosen.updates)], AUTO)
    update = st.selectbox(
        "Update of the survivors",
        [AUTO, *(u.value for u in chosen.updates)],
        help="How the remaining weights move to make up for the removed ones. "
        + " ".join(f"**{u.value}**: {u.help}" for u in Update),
        **bound("update"),
    )
    resolved = chosen.default_update if update == AUTO else Update(update)
    own = "The method's own: " if update == AUTO else ""
    st.caption(f"{own}{resolved.label}, ${resolved.equation}$. {resolved.help}")
    scale = st.slider(
        "Update scale",
        0.0,
        1.0,
        1.0,
        0.05,
        disabled=resolved is not Update.INDEPENDENT,
        help="$s$ in the independent update: 1 is the paper's step, 0 none at all; the official scripts use 0.9 at times.",
        **bound("scale"),
    )
    fields = {
        "sparsity": float(sparsity),
        "scope": scope,
        "update": None if update == AUTO else update,
        "update_scale": float(scale) if resolved is Update.INDEPENDENT else 1.0,
    }
    return fields, note_sparsity


def _beside(facts: Facts) -> list[str]:
    """The methods to compare with."""
    return st.multiselect(
        "Compare with",
        list(facts.methods),
        default=list(BESIDE),
        help="Methods drawn beside the one in focus, each with its own default update.",
        **bound("with"),
    )


def _fisher(facts: Facts) -> tuple[dict[str, object], dict[str, DeltaGenerator]]:
    """(fields of a config, the places for notes below the controls)."""
    images = st.select_slider(
        "Training images there are",
        [count for count in IMAGE_COUNTS if count == "all" or int(count) < facts.train_size],
        help="Limited data: only so many training images exist, for gradients, BatchNorm statistics and everything else a "
        "method learns from. The test images stay.",
        **bound("images"),
    )
    most = facts.train_size if images == "all" else int(images)
    counts = [n for n in SAMPLE_COUNTS if n <= most]
    _fit("samples", counts, min(1000, counts[-1]))
    num_samples = st.select_slider(
        "Fisher samples N",
        counts,
        value=min(1000, counts[-1]),
        help="How many training images the Fisher is estimated from: "
        r"$F=\lambda I+\tfrac1N\sum_n g_n g_n^\top$. Fewer samples are always a prefix of more.",
        **bound("samples"),
    )
    note_samples = st.container(key=f"{NOTE}samples")
    scale_of_damping = DampingScale(
        st.segmented_control(
            "The damping is",
            [s.value for s in DampingScale],
            default=DampingScale.ABSOLUTE.value,
            required=True,
            help=" ".join(f"**{s.value}**: ${s.equation}$. {s.help}" for s in DampingScale),
            **bound("damping-scale"),
        )
    )
    relative = scale_of_damping is DampingScale.RELATIVE
    dampings = DAMPINGS[scale_of_damping]
    _fit("damping", dampings, DEFAULT_DAMPING)
    damping = st.select_slider(
        "Damping λ over the mean curvature" if relative else "Damping λ",
        dampings,
        value=DEFAULT_DAMPING,
        help=r"Added to the Fisher's diagonal. With $\lambda\to\infty$ the statistic $\tfrac12 w^2/[F^{-1}]_{jj}$ ranks as "
        "magnitude does; too little lets noise in the samples decide.",
        **bound("damping"),
    )
    note_damping = st.container(key=f"{NOTE}damping")
    sizes = [BLOCK_LAYER, BLOCK_NETWORK, *(b for b in BLOCK_SIZES if int(b) < facts.num_prunable)]
    _fit("block", sizes, BLOCK_LAYER)
    block = st.selectbox(
        "Block size",
        sizes,
        help="Which weights may interact: 1 is the diagonal alone, a number cuts each layer's weights into slices, "
        "**layer** is one block a layer, **network** one over everything, across layers.",
        **bound("block"),
    )
    note_block = st.container(key=f"{NOTE}block")
    labels = st.segmented_control(
        "Labels",
        [label.value for label in Labels],
        default=Labels.TRUE.value,
        required=True,
        help=" ".join(f"**{label.value}**: {label.help}" for label in Labels),
        **bound("labels"),
    )
    label = Labels(labels)
    st.caption(f"{label.label}: ${label.equation}$")
    fields = {
        "images": None if images == "all" else int(images),
        "num_samples": int(num_samples),
        "damping": float(damping),
        "damping_scale": scale_of_damping,
        "block_size": block,
        "labels": labels,
    }
    return fields, {"samples": note_samples, "damping": note_damping, "block": note_block}


def _run(facts: Facts) -> dict[str, object]:
    """Fields of a config: what the result does not depend on but by chance."""
    seed = st.number_input(
        "Seed",
        0,
        2**32 - 1,
        0,
        disabled=class_mode(),
        help="Fixes which training images are used, and sampled labels. The same seed gives the same numbers. A class "
        "has the one its link says.",
        **bound("seed"),
    )
    tested = ["all", *(count for count in TEST_COUNTS if int(count) < facts.test_size)]
    _fit("tests", tested, "all")
    tests = st.selectbox(
        "Test images evaluated",
        tested,
        help="How many test images accuracies are measured on, always the same ones. Fewer are quicker on a large network, "
        "and noisier: the bands widen.",
        **bound("tests"),
    )
    device = st.selectbox(
        "Device",
        [AUTO, "cpu", *(["cuda"] if torch.cuda.is_available() else [])],
        help="Where the arithmetic runs; auto takes a CUDA GPU where there is one.",
        **bound("device"),
    )
    return {"seed": int(seed), "test_images": None if tests == "all" else int(tests), "device": device}


def _more(facts: Facts, chosen: Method, patterned: bool) -> dict[str, object]:
    """The controls that most views leave as they are."""
    with st.expander("More ways to prune", icon=":material/tune:"):
        return {
            "exclude": st.multiselect(
                "Layers left alone",
                facts.layers,
                help="They keep all their weights, and are no part of the Fisher.",
                **bound("without"),
            ),
            "pattern": st.segmented_control(
                "Pattern N:M",
                PATTERNS,
                default="none",
                required=True,
                disabled=chosen.chooses,
                help="Exactly N of every M consecutive inputs stay, instead of a threshold: what sparse tensor cores run (2:4). "
                "The inputs of every layer must divide by M; leave the others alone.",
                **bound("pattern"),
            ),
            "budget": st.segmented_control(
                "The sparsity counts",
                [b.value for b in chosen.budgets],
                default=Budget.WEIGHTS.value,
                required=True,
                disabled=patterned,
                help=" ".join(f"**{b.value}**: {b.help}" for b in Budget),
                **bound("budget"),
            ),
            "flops_power": st.select_slider(
                "FLOPs power β",
                FLOPS_POWERS,
                disabled=chosen.chooses,
                help=r"Divides the statistic by $c_j^\beta$, with $c_j$ the multiply-adds of one weight: weights that cost much "
                "go sooner. The paper uses 0.3.",
                **bound("flops-power"),
            ),
            "stages": st.select_slider(
                "Stages R",
                STAGES,
                disabled=patterned,
                help="Prunes in R steps with gradients measured anew at each, on fresh images: the quadratic model is only good "
                "nearby. R times the work.",
                **bound("stages"),
            ),
            "stage_shape": st.segmented_control(
                "The stages rise",
                [s.value for s in StageShape],
                default=StageShape.POLYNOMIAL.value,
                required=True,
                help=" ".join(f"**{s.value}**: ${s.equation}$. {s.help}" for s in StageShape),
                **bound("stage-shape"),
            ),
            "batchnorm_images": st.select_slider(
                "BatchNorm images",
                BATCHNORM_COUNTS,
                help="Re-estimates the running statistics of BatchNorm layers on so many training images after pruning; 0 keeps "
                "those of the dense network.",
                **bound("batchnorm"),
            )
            if facts.has_batchnorm
            else 0,
        }
