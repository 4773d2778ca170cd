"""The derivation in numbers of one network, the steps in between: Fisher for Hessian, Woodbury, blocks."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments.agreement import spearman
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.lesson import COMPUTE, looked_at, mean_gradient, plain
from woodfisher_core.experiments.weights import weight_name
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.fisher import Blocks, recursive_inverse
from woodfisher_core.hessian import hessian_products
from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, Labels
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.timing import Stopwatch

# Weights whose Hessian column is computed, one product each, on as many images as keep that quick.
PROBED, FEWEST_PROBED, PROBED_WEIGHTS = 64, 8, 200_000
PROBED_IMAGE_WEIGHTS, FEWEST_IMAGES = 3_000_000, 50
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
# The block the recursion walks over, and how many of its weights are drawn.
BLOCK, DRAWN = 50, 8
BLOCK_SIZES = (1, 10, 100, 1000, BLOCK_LAYER, BLOCK_NETWORK)
ROW_BYTES = 20_000


@dataclass(frozen=True)
class DiagonalAgreement:
    """How one Fisher's diagonal compares with the Hessian's: ``cosine``, Spearman's ``rank`` correlation, ``ratio`` of sums."""

    cosine: float
    rank: float
    ratio: float


@dataclass(frozen=True)
class FisherHessian:
    """Undamped diagonals of some ``weights``: columns ``weight`` (its position), ``name``,
    ``hessian`` and a column a kind of ``labels``.

    ``agreement`` holds one entry a kind, ``growth`` the empirical Fisher of the first n ``samples`` against the same Hessian
    (``cosine``). ``downward`` of the probed weights have negative curvature. ``signal`` is ‖ḡ‖², ``noise`` the mean of ‖g_n‖²:
    at a minimum the first is zero. ``confidence`` is the network's mean probability of the true label on these images.
    """

    images: int
    weights: pd.DataFrame
    agreement: dict[str, DiagonalAgreement]
    growth: pd.DataFrame
    downward: int
    signal: float
    noise: float
    confidence: float


def fisher_hessian(space: Workspace, config: PruneConfig) -> FisherHessian:
    """Both kinds of Fisher against the exact Hessian, on the same images."""
    config = plain(config)
    key = ("lesson hessian", space.resolve(config.replace(sparsity=0.5, damping=1.0, block_size=BLOCK_LAYER)))
    return space.results.get(key, lambda: _fisher_hessian(space, config), lambda _: ROW_BYTES)


def _fisher_hessian(space: Workspace, config: PruneConfig) -> FisherHessian:
    problem = space.problem(config)
    images = looked_at(space, config)[: max(FEWEST_IMAGES, PROBED_IMAGE_WEIGHTS // len(problem.weights))]
    samples = problem.train_samples(images)
    rows = {kind: _rows(space, config, kind, len(images)) for kind in Labels}
    diagonals = {kind: part.square().mean(0, dtype=COMPUTE) for kind, part in rows.items()}
    order = diagonals[Labels.TRUE].argsort(stable=True)
    count = min(len(order), PROBED, max(FEWEST_PROBED, PROBED_WEIGHTS // len(order)))
    picked = order[torch.linspace(0, len(order) - 1, count, dtype=COMPUTE).round().long()].sort().values
    units = torch.zeros(len(order), count, dtype=COMPUTE, device=order.device)
    units[picked, torch.arange(count, device=order.device)] = 1.0
    products = hessian_products(problem.model, problem.parameters, samples.batches(1024), units)
    hessian = products[picked, torch.arange(count, device=order.device)]
    names = [weight_name(problem.parameters, position) for position in picked.tolist()]
    table = pd.DataFrame({"weight": picked.tolist(), "name": names, "hessian": hessian.tolist()})
    agreement = {}
    for kind, diagonal in diagonals.items():
        own = diagonal[picked]
        table[str(kind)] = own.tolist()
        agreement[str(kind)] = agree(own, hessian)
    seen = rows[Labels.TRUE][:, picked].to(COMPUTE).square().cumsum(0)
    counts = sorted({*(n for n in COUNTS if n < len(images)), len(images)})
    growth = [{"samples": n, "cosine": agree(seen[n - 1] / n, hessian).cosine} for n in counts]
    with torch.no_grad():
        outputs = problem.model(samples.inputs).softmax(1).gather(1, samples.targets[:, None])
    gradient = mean_gradient(space, config, len(images))
    noise = float(diagonals[Labels.TRUE].sum())
    downward = int((hessian < 0).sum())
    signal, confidence = float(gradient.square().sum()), float(outputs.mean())
    return FisherHessian(len(images), table, agreement, pd.DataFrame(growth), downward, signal, noise, confidence)


def agree(found: Tensor, exact: Tensor) -> DiagonalAgreement:
    """The comparison of two vectors; NaN where one of them is all zero."""
    cosine = found @ exact / (found.norm() * exact.norm())
    rank = spearman(found.cpu().numpy(), exact.cpu().numpy())
    return DiagonalAgreement(float(cosine), rank, float(found.sum() / exact.sum()))


def _rows(space: Workspace, config: PruneConfig, labels: Labels, count: int) -> Tensor:
    """G (count, d) with these labels; of the Fisher's own where it has them."""
    return space.rows(space.resolve(config.replace(labels=labels)), Stopwatch())[:count]


@dataclass(frozen=True)
class Woodbury:
    """The recursion over one block of ``size`` weights of ``layer``, against the closed form.

    ``steps`` holds [F⁻¹]_jj of some weights j after n of the N samples (``weight``, its ``name``, ``samples``, ``value``): every
    ``apart``-th from the one with the largest gradients on; ``closed`` what the closed form gives for them; ``difference``
    is the largest entry-wise difference of the two inverses over the largest entry, ``left`` the mean of the diagonal over 1/λ at
    every n. ``recursion`` and ``dual`` count multiplications for the network's largest block: N B² and N² B.
    """

    layer: str
    size: int
    apart: int
    num_rows: int
    damping: float
    steps: pd.DataFrame
    closed: dict[int, float]
    difference: float
    left: pd.DataFrame
    largest: int
    recursion: float
    dual: float


def woodbury(space: Workspace, config: PruneConfig) -> Woodbury:
    """N rank-one steps on a small block, and all of them at once."""
    config = plain(config)
    key = ("lesson woodbury", space.resolve(config.replace(sparsity=0.5, update="none", update_scale=1.0)))
    return space.results.get(key, lambda: _woodbury(space, config), lambda _: ROW_BYTES)


def _woodbury(space: Workspace, config: PruneConfig) -> Woodbury:
    problem, damping = space.problem(config), space.damping(config)
    rows = space.rows(space.resolve(config), Stopwatch())
    layer, start = _busiest(problem.parameters, rows)
    part = rows[:, start : start + BLOCK].to(COMPUTE)
    size, total = part.shape[1], len(part)
    apart = max(1, size // DRAWN)
    shown = part.square().sum(0).argsort(descending=True)[::apart][:DRAWN].tolist()
    counts = sorted({*(n for n in COUNTS if n < total), total})
    steps, left = [{"weight": start + j, "samples": 0, "value": 1.0 / damping} for j in shown], []
    left.append({"samples": 0, "share": 1.0})
    for count in counts:
        inverse = after(part, count, damping)
        diagonal = inverse.diagonal()
        steps += [{"weight": start + j, "samples": count, "value": float(diagonal[j])} for j in shown]
        left.append({"samples": count, "share": float(diagonal.mean()) * damping})
    closed = closed_form(part, damping)
    blocks = space.blocks(config)
    return Woodbury(
        layer,
        size,
        apart,
        total,
        damping,
        pd.DataFrame(steps).assign(
            name=lambda table: [weight_name(problem.parameters, one) for one in table["weight"]]
        ),
        {start + j: float(closed[j, j]) for j in shown},
        float((inverse - closed).abs().max() / closed.abs().max()),
        pd.DataFrame(left),
        blocks.largest,
        float(total) * blocks.largest**2,
        float(total) ** 2 * blocks.largest,
    )


def after(rows: Tensor, count: int, damping: float) -> Tensor:
    """(λI + (1/N) Σ_{n ≤ count} g_n g_nᵀ)⁻¹ of all N rows' recursion, stopped after ``count``: what it holds on its way."""
    share = len(rows) / count  # of the count rows alone the mean is 1/count, and λ as many times larger
    return share * recursive_inverse(rows[:count], damping * share)


def closed_form(rows: Tensor, damping: float) -> Tensor:
    """(1/λ) [I − Gᵀ (NλI + GGᵀ)⁻¹ G], (B, B): Woodbury's identity at once (design: "The mathematics")."""
    inner = rows @ rows.T
    inner.diagonal().add_(len(rows) * damping)
    factor = torch.linalg.cholesky(inner)
    reduced = torch.linalg.solve_triangular(factor, rows, upper=False)
    return (torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device) - reduced.T @ reduced) / damping


def _busiest(parameters: PrunableParameters, rows: Tensor) -> tuple[str, int]:
    """(layer, first position) of the whole block of consecutive weights with the largest gradients."""
    energy = rows.square().sum(0)
    found = []
    for layer in parameters.layers:
        own = energy[layer.slice]
        width = min(BLOCK, layer.numel)
        sums = own[: layer.numel - layer.numel % width].view(-1, width).sum(1)
        found.append((float(sums.max()), layer.module, layer.offset + int(sums.argmax()) * width))
    # The layer with the most weights: small last layers would always win.
    biggest = max(parameters.layers, key=lambda layer: layer.numel).module
    return next((name, start) for _, name, start in found if name == biggest)


@dataclass(frozen=True)
class BlockSizes:
    """``table`` has a row a block size: ``block``, ``count``, ``largest``, ``bytes`` of its dense float32 blocks, ``share`` of
    the Fisher's squared entries that lie in them, ``accuracy`` (percent, test) and ``standard_error``.

    ``full`` is the bytes of all of F, ``results`` the evaluations.
    """

    table: pd.DataFrame
    full: int
    results: dict[str, Evaluation]


def block_sizes(space: Workspace, config: PruneConfig) -> BlockSizes:
    """What each block size keeps, costs and gives, in ``config``'s setting with the joint update."""
    problem = space.problem(config)
    dim = problem.parameters.num_prunable
    rows, results = [], {}
    for own in block_runs(config):
        size = own.block_size
        if not isinstance(size, str) and size >= dim:
            continue
        blocks = Blocks.of(problem.parameters, size)
        result = results[str(size)] = space.evaluation(own)
        rows.append(
            {
                "block": str(size),
                "count": blocks.count,
                "largest": blocks.largest,
                "bytes": sum(4 * run.count * run.size**2 for run in blocks.runs),
                "share": _share(space, own),
                "accuracy": result.accuracy,
                "standard_error": result.standard_error,
            }
        )
    return BlockSizes(pd.DataFrame(rows), 4 * dim**2, results)


def block_runs(config: PruneConfig) -> tuple[PruneConfig, ...]:
    """The runs of :func:`block_sizes`, with blocks that may be larger than the network among them."""
    config = plain(config).replace(update="joint", update_scale=1.0)
    return tuple(config.replace(block_size=size) for size in BLOCK_SIZES)


def _share(space: Workspace, config: PruneConfig) -> float:
    """‖blocks of GᵀG‖² over ‖GᵀG‖² (Frobenius): the share of the Fisher's squared entries that the blocks keep."""
    key = ("lesson share", space.resolve(config.replace(sparsity=0.5, damping=1.0)))
    whole = ("lesson energy", space.resolve(config.replace(sparsity=0.5, damping=1.0, block_size=BLOCK_NETWORK)))

    def energy(size: int | str) -> float:
        rows = space.rows(space.resolve(config), Stopwatch())
        return block_energy(rows, Blocks.of(space.problem(config).parameters, size))

    total = space.results.get(whole, lambda: energy(BLOCK_NETWORK), lambda _: 100)
    return space.results.get(key, lambda: energy(config.block_size) / total, lambda _: 100)


def block_energy(rows: Tensor, blocks: Blocks) -> float:
    """Σ_blocks ‖G_bᵀG_b‖² (Frobenius) from rows G (N, d), through whichever of G_bᵀG_b and G_bG_bᵀ is smaller."""
    total = 0.0
    for run in blocks.runs:
        parts = rows[:, run.slice].unflatten(1, (run.count, run.size)).transpose(0, 1)
        for part in parts.split(max(1, (1 << 22) // min(run.size, len(rows)) ** 2)):
            gram = part.mT @ part if run.size <= len(rows) else part @ part.mT
            total += float(gram.square().sum(dtype=COMPUTE))
    return total
