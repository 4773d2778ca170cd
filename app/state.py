"""Widgets to frozen config, and back through the URL: each control is bound to a query parameter of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
import torch

from woodfisher_core.data import get_dataset
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.methods import METHODS, get_method
from woodfisher_core.models import MODELS, get_model
from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, DampingScale, Labels, Scope, Solver, Update

# Raised when a default below changes: a default value is not written into the link.
LINK_VERSION = "1"
AUTO = "auto"
SAMPLE_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
DEFAULT_DAMPING = "1e-3"
# Relative: from 1e-5 on, trace F / λ stays below what float64 bears up to half a million weights; 1e3 is nearly magnitude.
DAMPINGS = {
    scale: (*(f"{digit}e{power}" for power in range(lowest, lowest + 8) for digit in (1, 3)), f"1e{lowest + 8}")
    for scale, lowest in ((DampingScale.ABSOLUTE, -8), (DampingScale.RELATIVE, -5))
}
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

    samples: st.delta_generator.DeltaGenerator
    damping: st.delta_generator.DeltaGenerator
    block: st.delta_generator.DeltaGenerator
    sparsity: st.delta_generator.DeltaGenerator


def _fit(key: str, options: Sequence, fallback: object) -> None:
    """Where the control holds a value another network allowed and this one does not, takes ``fallback``, in the link too."""
    if key in st.session_state and st.session_state[key] not in options:
        st.session_state[key] = fallback


def _bound(key: str) -> dict[str, str]:
    return {"key": key, "bind": "query-params"}


def controls(only: str | None = None) -> tuple[View, Notes]:
    """Draws the sidebar; returns what it says and where its live notes go.

    ``only`` fixes the method; its own control and the one that compares methods are then left out.
    """
    with st.sidebar:
        st.subheader("Network")
        model = st.selectbox(
            "Network",
            list(MODELS),
            help="All networks come trained. The digits networks need no download; MLPNet reads MNIST.",
            label_visibility="collapsed",
            **_bound("model"),
        )
        spec = get_model(model)
        st.caption(f"**{spec.label}.** {spec.description} Data: {get_dataset(spec.dataset).label}.")

        st.subheader("Pruning")
        method = only or st.selectbox(
            "Method in focus",
            list(METHODS),
            index=list(METHODS).index("woodfisher"),
            help="The statistic that ranks the weights; the lowest go first. "
            + " ".join(f"**{m.name}**: ${m.equation}$. {m.help}" for m in METHODS.values()),
            **_bound("method"),
        )
        chosen = get_method(method)
        st.caption(f"{chosen.label}: ${chosen.equation}$. {chosen.help}")
        sparsity = st.slider(
            "Sparsity",
            0.0,
            0.99,
            0.8,
            0.01,
            help="The fraction of the prunable weights (Linear and Conv weights, no biases) that is set to zero.",
            **_bound("sparsity"),
        )
        note_sparsity = st.container()
        scope = st.segmented_control(
            "Scope of the threshold",
            [s.value for s in Scope],
            default=Scope.GLOBAL.value,
            required=True,
            help="**global**: one threshold over all layers, so cheap layers give more. **layer**: the same sparsity in each.",
            **_bound("scope"),
        )
        update = st.selectbox(
            "Update of the survivors",
            [AUTO, *(u.value for u in Update)],
            help="How the remaining weights move to make up for the removed ones. "
            + " ".join(f"**{u.value}**: {u.help}" for u in Update),
            **_bound("update"),
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
            **_bound("scale"),
        )
        compared = (
            [only]
            if only
            else st.multiselect(
                "Compare with",
                list(METHODS),
                default=list(METHODS),
                help="Methods drawn beside the one in focus, each with its own default update.",
                **_bound("with"),
            )
        )

        st.subheader("Fisher")
        most = get_dataset(spec.dataset).train_size
        counts = [n for n in SAMPLE_COUNTS if n <= most]
        _fit("samples", counts, 1000)
        num_samples = st.select_slider(
            "Fisher samples N",
            counts,
            value=1000,
            help="How many training images the Fisher is estimated from: "
            r"$F=\lambda I+\tfrac1N\sum_n g_n g_n^\top$. Fewer samples are always a prefix of more.",
            **_bound("samples"),
        )
        note_samples = st.container()
        scale_of_damping = DampingScale(
            st.segmented_control(
                "The damping is",
                [s.value for s in DampingScale],
                default=DampingScale.ABSOLUTE.value,
                required=True,
                help=" ".join(f"**{s.value}**: ${s.equation}$. {s.help}" for s in DampingScale),
                **_bound("damping-scale"),
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
            **_bound("damping"),
        )
        note_damping = st.container()
        sizes = [BLOCK_LAYER, BLOCK_NETWORK, *(b for b in BLOCK_SIZES if int(b) < _num_prunable(model))]
        _fit("block", sizes, BLOCK_LAYER)
        block = st.selectbox(
            "Block size",
            sizes,
            help="Which weights may interact: 1 is the diagonal alone, a number cuts each layer's weights into slices, "
            "**layer** is one block a layer, **network** one over everything, across layers.",
            **_bound("block"),
        )
        note_block = st.container()
        labels = st.segmented_control(
            "Labels",
            [label.value for label in Labels],
            default=Labels.TRUE.value,
            required=True,
            help=" ".join(f"**{label.value}**: {label.help}" for label in Labels),
            **_bound("labels"),
        )
        label = Labels(labels)
        st.caption(f"{label.label}: ${label.equation}$")

        st.subheader("Run")
        seed = st.number_input(
            "Seed",
            0,
            2**32 - 1,
            0,
            help="Fixes which training images are used, and sampled labels. The same seed gives the same numbers.",
            **_bound("seed"),
        )
        device = st.selectbox(
            "Device",
            [AUTO, "cpu", *(["cuda"] if torch.cuda.is_available() else [])],
            help="Where the arithmetic runs; auto takes a CUDA GPU where there is one.",
            **_bound("device"),
        )
    st.query_params["v"] = LINK_VERSION
    config = PruneConfig(
        model=model,
        method=method,
        sparsity=float(sparsity),
        scope=scope,
        update=None if update == AUTO else update,
        update_scale=float(scale) if resolved is Update.INDEPENDENT else 1.0,
        num_samples=int(num_samples),
        damping=float(damping),
        damping_scale=scale_of_damping,
        block_size=block,
        labels=labels,
        seed=int(seed),
        device=device,
        solver=Solver.SPECTRAL,
    )
    ordered = tuple(name for name in METHODS if name in compared or name == method)
    return View(config, ordered), Notes(note_samples, note_damping, note_block, note_sparsity)


@st.cache_data(max_entries=64, show_spinner=False)
def _num_prunable(model: str) -> int:
    from woodfisher_core.parameters import PrunableParameters

    return PrunableParameters.from_model(get_model(model).build()).num_prunable
