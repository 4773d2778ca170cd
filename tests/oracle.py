"""Dense float64 oracles, written from the definitions and sharing nothing with the package but the block slices."""

import torch
from torch import Tensor

from woodfisher_core.fisher import Blocks


def dense_fisher(rows: Tensor, blocks: Blocks, damping: float) -> Tensor:
    """F = λI + (1/N) GᵀG with everything between blocks zero, (d, d) float64."""
    exact = rows.double()
    full = exact.T @ exact / len(exact)
    fisher = damping * torch.eye(full.shape[0], dtype=torch.float64)
    for part in blocks.slices():
        fisher[part, part] += full[part, part]
    return fisher


def dense_inverse(rows: Tensor, blocks: Blocks, damping: float) -> Tensor:
    """F⁻¹ block by block, (d, d) float64."""
    fisher = dense_fisher(rows, blocks, damping)
    inverse = torch.zeros_like(fisher)
    for part in blocks.slices():
        inverse[part, part] = torch.linalg.inv(fisher[part, part])
    return inverse


def kkt_step(fisher: Tensor, blocks: Blocks, weights: Tensor, keep: Tensor) -> Tensor:
    """The minimiser of ½δᵀFδ under δ_P = −w_P, from the full KKT system [[F, E], [Eᵀ, 0]] of each block."""
    step = torch.zeros(len(weights), dtype=torch.float64)
    for part in blocks.slices():
        own, gone = fisher[part, part], (~keep[part]).nonzero().squeeze(1)
        size, count = len(own), len(gone)
        chosen = torch.eye(size, dtype=torch.float64)[:, gone]
        system = torch.zeros(size + count, size + count, dtype=torch.float64)
        system[:size, :size], system[:size, size:], system[size:, :size] = own, chosen, chosen.T
        target = torch.cat([torch.zeros(size, dtype=torch.float64), -weights[part][gone].double()])
        step[part] = torch.linalg.solve(system, target)[:size]
    return step


def independent_step(inverse: Tensor, weights: Tensor, keep: Tensor, scale: float = 1.0) -> Tensor:
    """Sum over pruned q of −w_q/[F⁻¹]_qq · F⁻¹e_q, one weight at a time."""
    step = torch.zeros(len(weights), dtype=torch.float64)
    for q in (~keep).nonzero().squeeze(1):
        step -= scale * weights[q].double() / inverse[q, q] * inverse[:, q]
    return step


def relative(got: Tensor, wanted: Tensor) -> float:
    """Largest relative error, element by element."""
    return float(((got - wanted) / wanted).abs().max())


def norm_error(got: Tensor, wanted: Tensor) -> float:
    """‖got − wanted‖ / ‖wanted‖."""
    return float(torch.linalg.norm(got - wanted) / torch.linalg.norm(wanted).clamp_min(1e-300))


def follows(keep: Tensor, pattern, layer) -> bool:
    """Whether at most N of every M consecutive inputs of each output stay, at every kernel position, counted one by one."""
    weight = keep.reshape(layer.shape[0], layer.shape[1], -1)
    return all(
        int(weight[out, start : start + pattern.of, place].sum()) <= pattern.stays
        for out in range(weight.shape[0])
        for place in range(weight.shape[2])
        for start in range(0, weight.shape[1], pattern.of)
    )
