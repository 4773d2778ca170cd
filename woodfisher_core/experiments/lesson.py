"""The derivation in numbers of one network, first and last steps: the question, Taylor, one weight, many weights.

Each function takes a workspace and a config and gives what one step of the lesson says; nothing here is made up. They look at
``plain(config)``: in one step, without a pattern. Losses are means in nats, computed in float64 so that a millionth is real.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation, paired_standard_error
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.exact_losses import exact_losses
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.experiments.tables import curve_table
from woodfisher_core.experiments.weights import weight_name
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.hessian import hessian_products
from woodfisher_core.loss_change import QuadraticTerms, own_quadratic_terms
from woodfisher_core.options import Update
from woodfisher_core.parameters import PrunableParameters

COMPUTE = torch.float64
# Images that a step measures on: all of the Fisher's for a small network, fewer for one of many weights.
IMAGE_WEIGHTS = 50_000_000
FEWEST_IMAGES = 50
SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
RIVALS = ("random", "magnitude", "woodfisher")
# Which step of the weights the expansion is tried on, and which shares of it.
PRUNE, COMPENSATE, RANDOM = "zeroed only", "zeroed and compensated", "a random direction"
DIRECTIONS = (PRUNE, COMPENSATE, RANDOM)
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
# Which weight stands for all.
SMALLEST_KEPT, LARGEST_REMOVED, CHEAPEST, DEAREST = "smallest kept", "largest removed", "cheapest", "dearest"
EXAMPLES = (SMALLEST_KEPT, LARGEST_REMOVED, CHEAPEST, DEAREST)
MOVERS = 8
ROW_BYTES = 4000


def plain(config: PruneConfig) -> PruneConfig:
    """WoodFisher in one step, single images a gradient row, without a pattern: what the derivation is about."""
    update = config.update if config.method == "woodfisher" else None
    scale = config.update_scale if update is not None else 1.0
    own = {"method": "woodfisher", "update": update, "update_scale": scale, "pattern": None, "stages": 1}
    return config.replace(**own, mini_batch=1, flops_power=0.0)


def looked_at(space: Workspace, config: PruneConfig) -> np.ndarray:
    """Training-set indices of the images a step measures on: the first of the Fisher's own."""
    used, _ = space.samples(config)
    most = max(FEWEST_IMAGES, IMAGE_WEIGHTS // space.problem(config).parameters.num_prunable)
    return used[:most]


@dataclass(frozen=True)
class Question:
    """Which of ``total`` weights can go: ``subsets`` is log10 of the number of ways to choose those ``removed``.

    ``points`` holds a curve a method as :func:`tables.curve_table` does, ``results`` the accuracies at the config's sparsity.
    """

    total: int
    removed: int
    subsets: float
    dense: float
    results: dict[str, Evaluation]
    points: pd.DataFrame


def question(space: Workspace, config: PruneConfig) -> Question:
    """Random, magnitude and WoodFisher at the config's sparsity and over :data:`SPARSITIES`."""
    rivals = rival_lines(config)
    config = plain(config)
    problem = space.problem(config)
    total = problem.parameters.num_prunable
    results = {name: space.evaluation(one) for name, one in rivals.items()}
    curves = {name: space.curve(one, SPARSITIES) for name, one in rivals.items()}
    removed = total - space.outcome(config).mask.kept
    ways = (math.lgamma(total + 1) - math.lgamma(removed + 1) - math.lgamma(total - removed + 1)) / math.log(10)
    return Question(total, removed, ways, problem.dense.accuracy, results, curve_table(curves, len(problem.test)))


def rival_lines(config: PruneConfig) -> dict[str, PruneConfig]:
    """By method, what :func:`question` draws over :data:`SPARSITIES`."""
    config = plain(config)
    return {name: config if name == "woodfisher" else _rival(config, name) for name in RIVALS}


def _rival(config: PruneConfig, name: str) -> PruneConfig:
    return config.replace(method=name, update=None, update_scale=1.0)


@dataclass(frozen=True)
class Taylor:
    """L(w+tδ) − L(w) along one step δ: ``first`` gᵀδ, ``second`` ½δᵀHδ with the exact Hessian, and what was ``measured`` at
    every t of :data:`SHARES`; all on the same images. ``fisher`` is ½δᵀFδ with the undamped Fisher of those images."""

    images: int
    loss: float
    length: float
    first: float
    second: float
    fisher: float
    measured: tuple[float, ...]

    def predicted(self, share: float) -> float:
        """Both terms at t = ``share``."""
        return share * self.first + share**2 * self.second

    def at(self, share: float) -> float:
        """The measured change at t = ``share``, one of :data:`SHARES`."""
        return self.measured[SHARES.index(share)]


def taylor(space: Workspace, config: PruneConfig, direction: str) -> Taylor:
    """The loss along ``direction`` (one of :data:`DIRECTIONS`), against its expansion at the trained weights."""
    config = plain(config)
    key = ("lesson taylor", space.resolve(config), direction)
    return space.results.get(key, lambda: _taylor(space, config, direction), lambda _: ROW_BYTES)


def _taylor(space: Workspace, config: PruneConfig, direction: str) -> Taylor:
    problem = space.problem(config)
    weights = problem.weights.to(COMPUTE)
    step = _direction(space, config, direction)
    if not step.any():
        raise InputError("Taylor: expected a step that moves weights; at sparsity 0 nothing does. Raise the sparsity.")
    samples = problem.train_samples(looked_at(space, config))
    batches = list(samples.batches(1024))
    gradient = mean_gradient(space, config)
    curved = hessian_products(problem.model, problem.parameters, batches, step, dtype=COMPUTE)
    losses = exact_losses(problem, samples)
    values = [float(losses(weights + t * step).mean()) for t in (0.0, *SHARES)]
    # Rows of these images with their own labels, whatever labels the Fisher has.
    own = config.replace(num_samples=len(samples), labels="true", block_size="network")
    terms = own_quadratic_terms(space.context(own).fisher(), step)
    return Taylor(
        len(samples),
        values[0],
        float(step.norm()),
        float(gradient @ step),
        0.5 * float(step @ curved),
        terms.second_order,
        tuple(value - values[0] for value in values[1:]),
    )


def _direction(space: Workspace, config: PruneConfig, direction: str) -> Tensor:
    """δ (d,) float64. The random one is as long as zeroing alone is."""
    weights = space.problem(config).weights
    if direction not in DIRECTIONS:
        raise InputError(f"direction: expected one of {', '.join(DIRECTIONS)}, got {direction!r}.")
    update = Update.JOINT if direction == COMPENSATE else Update.NONE
    step = (space.outcome(config.replace(update=update, update_scale=1.0)).weights - weights).to(COMPUTE)
    if direction != RANDOM:
        return step
    drawn = torch.from_numpy(np.random.RandomState(config.seed).standard_normal(len(step))).to(step)
    return drawn * step.norm() / drawn.norm()


def mean_gradient(space: Workspace, config: PruneConfig, count: int | None = None) -> Tensor:
    """∇L (d,) float64 on the images of :func:`looked_at`, or the first ``count`` of them, with their own labels."""
    problem = space.problem(config)
    samples = problem.train_samples(looked_at(space, config)[:count])
    network = problem.parameters.placed_in(problem.model, problem.weights).to(problem.weights.device, COMPUTE)
    flat = problem.weights.to(COMPUTE).requires_grad_()
    for inputs, targets in samples.batches(256):
        outputs = functional_call(network, problem.parameters.unflatten(flat), (inputs.to(flat),))
        (cross_entropy(outputs, targets.to(flat.device), reduction="sum") / len(samples)).backward()
    return flat.grad


@dataclass(frozen=True)
class OneWeight:
    """One weight q removed alone, with the others left (``alone``) and moved as OBS says (``compensated``).

    ``curvature`` is F_qq and ``inverse`` [F⁻¹]_qq, both damped; ``left`` what remains of w_q, ``moved`` the length of what the
    others do. Ranks count from 1, the first to go; predictions are undamped, on the Fisher's own images, measurements on the
    first ``images`` of these (``measured``; see :func:`looked_at`) and on held-out ones; ``movers`` are those that move most.
    """

    index: int
    layer: str
    place: tuple[int, ...]
    kept: bool
    total: int
    weight: float
    curvature: float
    inverse: float
    left: float
    moved: float
    magnitude_rank: int
    rank: int
    alone: QuadraticTerms
    compensated: QuadraticTerms
    measured: tuple[float, float]
    held_out: tuple[float, float] | None
    images: int
    movers: pd.DataFrame

    @property
    def statistic(self) -> float:
        """ρ_q = w_q² / (2 [F⁻¹]_qq), nats."""
        return self.weight**2 / (2.0 * self.inverse)

    @property
    def without(self) -> float:
        """½ w_q² F_qq: what the damped model asks where the others stay."""
        return 0.5 * self.weight**2 * self.curvature

    def table(self) -> pd.DataFrame:
        """Rows of ``what`` the others do (stay, move) and ``which`` number it is: ``nats``."""
        rows = []
        for place, (what, terms) in enumerate((("stay", self.alone), ("move", self.compensated))):
            rows.append({"what": what, "which": "predicted", "nats": terms.total})
            rows.append({"what": what, "which": "measured, Fisher's images", "nats": self.measured[place]})
            if self.held_out is not None:
                rows.append({"what": what, "which": "measured, held-out images", "nats": self.held_out[place]})
        return pd.DataFrame(rows)


def one_weight(space: Workspace, config: PruneConfig, which: str) -> OneWeight:
    """The weight that ``which`` of :data:`EXAMPLES` names, removed by OBS."""
    config = plain(config)
    key = ("lesson weight", space.resolve(config), which)
    return space.results.get(key, lambda: _one_weight(space, config, which), lambda _: 2 * ROW_BYTES)


def example(space: Workspace, config: PruneConfig, which: str) -> int:
    """Its position in the flat vector."""
    mask, saliency = space.outcome(config).mask, space.outcome(config).saliency
    size = space.problem(config).weights.abs()
    if which in (CHEAPEST, DEAREST):
        return int(saliency.argmin() if which == CHEAPEST else saliency.argmax())
    if which not in EXAMPLES:
        raise InputError(f"weight: expected one of {', '.join(EXAMPLES)}, got {which!r}.")
    if which == LARGEST_REMOVED:
        if bool(mask.keep.all()):
            raise InputError("largest removed: at this sparsity nothing is removed. Raise the sparsity.")
        return int(torch.where(mask.keep, -1.0, size).argmax())
    return int(torch.where(mask.keep, size, torch.inf).argmin())


def _one_weight(space: Workspace, config: PruneConfig, which: str) -> OneWeight:
    problem, context = space.problem(config), space.context(config)
    fisher, parameters = context.fisher(), problem.parameters
    index = example(space, config, which)
    weights = problem.weights.to(COMPUTE)
    unit = torch.zeros_like(weights)
    unit[index] = 1.0
    column = context.inverse().apply(unit)
    alone, step = -weights[index] * unit, -weights[index] / column[index] * column
    images, (_, held_out) = looked_at(space, config), space.samples(config)
    points = (weights, weights + alone, weights + step)
    measured, outside = (_rises(problem, points, part) for part in (images, held_out))
    others = step.clone()
    others[index] = 0.0
    [layer] = [layer for layer in parameters.layers if layer.offset <= index < layer.end]
    size, saliency = weights.abs(), context.saliency()
    return OneWeight(
        index=index,
        layer=layer.module,
        place=tuple(int(i) for i in np.unravel_index(index - layer.offset, layer.shape)),
        kept=bool(space.outcome(config).mask.keep[index]),
        total=len(weights),
        weight=float(weights[index]),
        curvature=float(fisher.diagonal[index]) + context.damping,
        inverse=float(column[index]),
        left=float(weights[index] + step[index]),
        moved=float(others.norm()),
        magnitude_rank=1 + int((size < size[index]).sum()),
        rank=1 + int((saliency < saliency[index]).sum()),
        alone=own_quadratic_terms(fisher, alone),
        compensated=own_quadratic_terms(fisher, step),
        measured=measured,
        held_out=outside,
        images=len(images),
        movers=_movers(parameters, weights, others),
    )


def _rises(problem: Problem, points: tuple[Tensor, ...], indices: np.ndarray) -> tuple[float, float] | None:
    """Loss at the second and third point less that at the first; None without images."""
    if len(indices) == 0:
        return None
    losses = exact_losses(problem, problem.train_samples(indices))
    base, first, second = (float(losses(point).mean()) for point in points)
    return first - base, second - base


def _movers(parameters: PrunableParameters, weights: Tensor, step: Tensor) -> pd.DataFrame:
    """The weights that move most: ``name``, ``layer``, ``weight`` (its position), ``before``, ``after``."""
    rows = []
    for index in step.abs().topk(min(MOVERS, len(step))).indices.tolist():
        if step[index] != 0:
            [layer] = [layer.module for layer in parameters.layers if layer.offset <= index < layer.end]
            name, before = weight_name(parameters, index), float(weights[index])
            rows.append((name, layer, index, before, before + float(step[index])))
    return pd.DataFrame(rows, columns=["name", "layer", "weight", "before", "after"])


@dataclass(frozen=True)
class ManyWeights:
    """All at once, one mask: ``results`` and ``costs`` ½δᵀFδ (damped, nats) an update at the config's sparsity.

    ``left`` is what the sum of the single corrections leaves of the removed weights before they are set to zero, as a share of
    their size (|w_P + δ_P| over |w_P|, means); ``points`` the curves, in columns ``update``, ``sparsity``, ``accuracy``,
    ``standard_error``, with magnitude among them.
    """

    removed: int
    kept: int
    results: dict[str, Evaluation]
    costs: dict[str, float]
    left: float
    points: pd.DataFrame


def many_weights(space: Workspace, config: PruneConfig) -> ManyWeights:
    """No update, the independent and the joint one, and magnitude beside them."""
    lines = update_lines(config)
    config = lines["none"]
    results = {name: space.evaluation(one) for name, one in lines.items()}
    curves = {name: space.curve(one, SPARSITIES) for name, one in lines.items()}
    points = curve_table(curves, len(space.problem(config).test), dict.fromkeys(lines, "update"))
    keep = space.outcome(config).mask.keep
    key = ("lesson updates", space.resolve(config))
    costs, left = space.results.get(key, lambda: _costs(space, lines, keep), lambda _: ROW_BYTES)
    points = points.rename(columns={"method": "update"}).drop(columns="label")
    return ManyWeights(int((~keep).sum()), int(keep.sum()), results, costs, left, points)


def update_lines(config: PruneConfig) -> dict[str, PruneConfig]:
    """What :func:`many_weights` draws over :data:`SPARSITIES`: a run an update, else alike, and magnitude without one."""
    lines = {str(update): plain(config).replace(update=update, update_scale=1.0) for update in Update}
    return lines | {"magnitude": _rival(lines["none"], "magnitude")}


def _costs(space: Workspace, lines: dict[str, PruneConfig], keep: Tensor) -> tuple[dict[str, float], float]:
    config = lines["independent"]
    context, weights = space.context(config), space.problem(config).weights.to(COMPUTE)
    costs = {}
    for update in Update:
        step = space.outcome(lines[str(update)]).weights.to(COMPUTE) - weights
        inside = own_quadratic_terms(context.fisher(), step).second_order
        costs[str(update)] = inside + 0.5 * context.damping * float(step.square().sum())
    pushed = context.inverse().apply(torch.where(keep, 0.0, -weights / context.inverse_diagonal()))
    removed = ~keep
    size = float(weights[removed].abs().mean()) if bool(removed.any()) else 0.0
    left = float((weights + pushed)[removed].abs().mean()) / size if size else 0.0
    return costs, left


@dataclass(frozen=True)
class Rung:
    """One idea more: its ``label``, the ``result``, and how its accuracy differs from the rung before, in points and in its
    paired standard error."""

    label: str
    result: Evaluation
    gain: float
    error: float


def ladder(space: Workspace, config: PruneConfig) -> tuple[Rung, ...]:
    """What each idea of the lesson buys at the config's sparsity: who goes, then how the others move."""
    rungs: list[Rung] = []
    for label, one in rung_runs(config).items():
        result = space.evaluation(one)
        before = rungs[-1].result if rungs else result
        rungs.append(Rung(label, result, result.accuracy - before.accuracy, paired_standard_error(result, before)))
    return tuple(rungs)


def rung_runs(config: PruneConfig) -> dict[str, PruneConfig]:
    """By label, what :func:`ladder` compares."""
    base = plain(config).replace(update=Update.NONE, update_scale=1.0)
    return {
        "at random": base.replace(method="random"),
        "smallest |w|": base.replace(method="magnitude"),
        "smallest w² Fⱼⱼ": base.replace(method="diagonal-fisher"),
        "smallest ρ": base,
        "ρ, independent update": base.replace(update=Update.INDEPENDENT),
        "ρ, joint update": base.replace(update=Update.JOINT),
    }
