"""A pinned setting, A: carried by the link, computed again, and shown beside the one that the controls say."""

import dataclasses
import json

import pandas as pd
import streamlit as st

from app import charts
from app.binding import in_link
from app.explain_weights import masks_sentence, pair_sentence
from app.linking import WITH_CONTROL
from app.words import percent, share
from woodfisher_core.data.brought import is_own
from woodfisher_core.errors import InputError, WoodFisherError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.results import CurvePoint
from woodfisher_core.experiments.weights import mask_difference
from woodfisher_core.methods import Outcome, get_method
from woodfisher_core.models.base import SHIPPED
from woodfisher_core.options import Solver

PARAMETER = "pin"
_REMEMBERED = "pinned setting"
# Longer than any setting of these pages.
LONGEST = 2000
# Where it runs is no wish.
FIELDS = tuple(sorted(WITH_CONTROL - {"device"}))


def written(config: PruneConfig) -> str:
    """``config`` as the link's parameter: the fields that controls set, where they are not the default."""
    plain = PruneConfig(model=config.model, method=config.method)
    values, default = config.to_dict(), plain.to_dict()
    said = {name: values[name] for name in FIELDS if values[name] != default[name]}
    return json.dumps({"model": config.model, "method": config.method, **said}, separators=(",", ":"), sort_keys=True)


def parse(text: str, device: str) -> PruneConfig:
    """The config that :func:`written` wrote, on ``device``.

    Raises:
        InputError: It names anything that no control sets, or values that cannot be.
    """
    try:
        values = json.loads(text) if len(text) <= LONGEST else None
        if not isinstance(values, dict) or not values.keys() <= set(FIELDS):
            raise ValueError
        # A link names no file of this machine: what ships with the network, or what was brought here.
        if values.get("weights", SHIPPED) != SHIPPED and not is_own(values["weights"]):
            raise ValueError
        return PruneConfig(**values, device=device, solver=Solver.SPECTRAL)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError("pin: the link holds no setting of these controls. Pin one anew.") from error


def pin(config: PruneConfig) -> None:
    """Makes ``config`` A."""
    st.session_state[_REMEMBERED] = written(config)


def unpin() -> None:
    """There is no A any more."""
    st.session_state.pop(_REMEMBERED, None)
    st.query_params.pop(PARAMETER, None)


def pinned(config: PruneConfig) -> PruneConfig | None:
    """A, from this session or from the link; None, said where the link is wrong, if there is none.

    ``config`` is the present setting: A runs on the same device.
    """
    text = st.session_state.get(_REMEMBERED) or st.query_params.get(PARAMETER, "")
    if not text:
        return None
    try:
        found = parse(text, config.device)
    except WoodFisherError as error:
        unpin()
        st.caption(f":material/keep_off: {error}")
        return None
    st.session_state[_REMEMBERED] = text
    in_link(PARAMETER, text)
    return found


def buttons(config: PruneConfig, other: PruneConfig | None) -> None:
    """The button that makes the present setting A, and the one that lets go of A."""
    if other != config:
        st.button(
            "Pin this as A" if other is None else "Pin this instead",
            icon=":material/push_pin:",
            key="pin-a",
            on_click=pin,
            args=(config,),
            help="Remembers this setting in the link and shows it beside whatever you choose next, computed anew. It is not the "
            "baseline: that is a run kept among your runs, the same on every page.",
        )
    if other is not None:
        st.button("Unpin A", icon=":material/keep_off:", key="unpin-a", on_click=unpin)


@dataclasses.dataclass(frozen=True)
class Pinned:
    """A with its results."""

    config: PruneConfig
    outcome: Outcome
    evaluation: Evaluation
    curve: tuple[CurvePoint, ...]

    @property
    def name(self) -> str:
        return f"A: {get_method(self.config.method).label}, {share(self.outcome.mask.sparsity)}"


def alike(first: PruneConfig, second: PruneConfig) -> bool:
    """Whether both prune one network and read the same test images, so that they can be compared image by image."""
    return all(getattr(first, name) == getattr(second, name) for name in ("model", "dataset", "test_images"))


def to_compute(space: Workspace, config: PruneConfig, other: PruneConfig | None) -> bool:
    """Whether A is something else to compute; where its network cannot be loaded, :func:`computed` says so."""
    if other is None or other == config or not alike(config, other):
        return False
    try:
        space.problem(other)
    except WoodFisherError:
        return False
    return True


def differing(config: PruneConfig, other: PruneConfig) -> dict[str, tuple[str, str]]:
    """Setting → (that of A, ``other``; that of ``config``), in words, where they differ."""
    names = [name for name in FIELDS if getattr(config, name) != getattr(other, name)]
    return {n.replace("_", " "): (_short(getattr(other, n)), _short(getattr(config, n))) for n in names}


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def computed(space: Workspace, config: PruneConfig, other: PruneConfig, curve, progress) -> Pinned | None:
    """A's results, ``curve(A)`` giving its curve; None, said, where it cannot be computed or compared."""
    if other == config:
        st.caption(":material/push_pin: This setting is A. Change something, and both stand side by side.")
        return None
    if not alike(config, other):
        st.caption(
            f":material/push_pin: A prunes {other.model} on {other.dataset}, measured on {other.test_images or 'all'} test "
            "images: not compared."
        )
        return None
    try:
        return Pinned(other, space.outcome(other, progress=progress), space.evaluation(other), curve(other))
    except WoodFisherError as error:
        st.warning(f"A cannot be computed: {error}", icon=":material/warning:")
        return None


def side_by_side(space: Workspace, config: PruneConfig, outcome: Outcome, pruned: Evaluation, other: Pinned) -> None:
    """What the present setting gains over A."""
    st.caption(
        f":material/push_pin: **{other.name}**. {pair_sentence(pruned, other.evaluation, differing(config, other.config))}"
    )
    parameters, theirs = space.problem(config).parameters, space.problem(other.config).parameters
    only, only_other, shared = mask_difference(parameters, outcome.mask.keep, theirs, other.outcome.mask.keep)
    mask, others = outcome.mask, other.outcome.mask
    with st.grid(4, min_column_width=165):
        for label, value, beside, help_text in (
            (
                "Accuracy over A",
                f"{pruned.accuracy - other.evaluation.accuracy:+.2f}",
                f"A has {percent(other.evaluation.accuracy)}",
                "In percentage points, on the same test images.",
            ),
            (
                "Loss over A",
                f"{pruned.loss - other.evaluation.loss:+.3f}",
                f"A has {other.evaluation.loss:.3f}",
                "Test loss of the present setting less that of A, in nats.",
            ),
            (
                "Sparsity over A",
                f"{100 * (mask.sparsity - others.sparsity):+.2f}",
                f"A has {share(others.sparsity, 1)}",
                "In percentage points of the prunable weights.",
            ),
            (
                "Kept weights shared",
                percent(100 * shared, 1),
                f"{only + only_other:,} differ",
                masks_sentence(only, only_other, shared),
            ),
        ):
            st.metric(label, value, beside, delta_color="off", delta_arrow="off", help=help_text, border=True)


def drawn_into(figure, other: Pinned):
    """The accuracy curves with A's."""
    points = pd.DataFrame({"sparsity": [p.removed for p in other.curve], "accuracy": [p.accuracy for p in other.curve]})
    return charts.add_pinned(figure, points, other.outcome.mask.sparsity, other.evaluation.accuracy, other.name)
