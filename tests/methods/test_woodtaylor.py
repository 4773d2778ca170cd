"""WoodTaylor against the published statistic, the constrained quadratic with its first-order term, and the official step."""

from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from cases import batch, network
from oracle import dense_fisher, dense_inverse, norm_error
from torch import Tensor

from woodfisher_core.fisher import Blocks
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.pruning import PruneResult, prune

DAMPINGS = (1e-3, 1e-1, 10.0)
each_kind = pytest.mark.parametrize("kind", ["mlp", "conv", "tied"])
each_block = pytest.mark.parametrize("block", ["layer", "network"])
each_damping = pytest.mark.parametrize("damping", DAMPINGS)
each_mini_batch = pytest.mark.parametrize("mini_batch", [1, 3])


@dataclass(frozen=True)
class Dense:
    """A run and the dense float64 matrices behind it."""

    kind: str
    block: str
    damping: float
    mini_batch: int = 1
    num_rows: int = 20

    @property
    def parameters(self) -> PrunableParameters:
        return PrunableParameters.from_model(network(self.kind))

    @property
    def blocks(self) -> Blocks:
        return Blocks.of(self.parameters, self.block)

    @cached_property
    def rows(self) -> Tensor:
        count = self.num_rows * self.mini_batch
        data = [batch(self.kind, count)]
        rows = gradient_matrix(network(self.kind), self.parameters, data, self.num_rows, mini_batch=self.mini_batch)
        return rows.double()

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient in the units of this Fisher: of means over m samples it is m times too small, and so must this be."""
        return self.rows.mean(0) / self.mini_batch

    @cached_property
    def fisher(self) -> Tensor:
        return dense_fisher(self.rows, self.blocks, self.damping)

    @cached_property
    def inverse(self) -> Tensor:
        return dense_inverse(self.rows, self.blocks, self.damping)

    @cached_property
    def weights(self) -> Tensor:
        return self.parameters.flatten(network(self.kind).state_dict()).double()

    def run(self, **options) -> PruneResult:
        return prune(
            network(self.kind),
            [batch(self.kind, self.num_rows * self.mini_batch)],
            method="woodtaylor",
            num_samples=self.num_rows,
            mini_batch=self.mini_batch,
            block_size=self.block,
            damping=self.damping,
            device="cpu",
            **{"sparsity": 0.6, **options},
        )


@each_kind
@each_block
@each_damping
@each_mini_batch
def test_published_statistic(kind, block, damping, mini_batch):
    """½w²/d + ½h²/d − wh/d − ½ḡᵀF⁻¹ḡ with h = F⁻¹ḡ, d = diag F⁻¹, but for that last constant; and the mask it makes."""
    dense = Dense(kind, block, damping, mini_batch)
    w, d, h = dense.weights, dense.inverse.diagonal(), dense.inverse @ dense.gradient
    published = 0.5 * w**2 / d + 0.5 * h**2 / d - w * h / d - 0.5 * dense.gradient @ dense.inverse @ dense.gradient
    result = dense.run()
    constant = (result.saliency - published).mean()
    assert float(constant) == pytest.approx(0.5 * float(dense.gradient @ h), rel=1e-4)
    assert norm_error(result.saliency, published + 0.5 * dense.gradient @ h) <= 1e-5
    keep = result.mask.keep
    assert float(published[keep].min()) >= float(published[~keep].max())


@each_kind
@each_block
@each_damping
def test_statistic_is_the_least_cost_of_removing_one_weight(kind, block, damping):
    """min gᵀδ + ½δᵀFδ under δ_q = −w_q, less the minimum without that condition, from the KKT system of single weights."""
    dense = Dense(kind, block, damping)
    saliency, best = dense.run().saliency, -0.5 * dense.gradient @ dense.inverse @ dense.gradient
    for q in range(0, len(dense.weights), 17):
        step = kkt_with_gradient(dense, torch.arange(len(dense.weights)) != q)
        cost = dense.gradient @ step + 0.5 * step @ dense.fisher @ step
        assert float(saliency[q]) == pytest.approx(float(cost - best), rel=1e-4, abs=1e-9)


def kkt_with_gradient(dense: Dense, keep: Tensor) -> Tensor:
    """The minimiser of gᵀδ + ½δᵀFδ under δ_P = −w_P, from [[F, E], [Eᵀ, 0]] (δ, ν) = (−g, −w_P) over all weights at once."""
    gone, size = (~keep).nonzero().squeeze(1), len(keep)
    chosen = torch.eye(size, dtype=torch.float64)[:, gone]
    system = torch.cat(
        [
            torch.cat([dense.fisher, chosen], dim=1),
            torch.cat([chosen.T, torch.zeros(len(gone), len(gone), dtype=torch.float64)], dim=1),
        ]
    )
    return torch.linalg.solve(system, torch.cat([-dense.gradient, -dense.weights[gone]]))[:size]


@each_kind
@each_block
@each_damping
@each_mini_batch
def test_joint_step_minimises_the_quadratic_with_its_gradient(kind, block, damping, mini_batch):
    """Exact zeros, and survivors at the minimum given these zeros."""
    dense = Dense(kind, block, damping, mini_batch)
    result = dense.run(update="joint")
    assert not result.weights[~result.mask.keep].any()
    wanted = dense.weights + kkt_with_gradient(dense, result.mask.keep)
    assert norm_error(result.weights.double(), torch.where(result.mask.keep, wanted, 0.0)) <= 1e-5


@each_kind
@each_mini_batch
def test_joint_step_by_the_dual_formula(kind, mini_batch):
    """δ_S = G_Sᵀ (NλI + G_S G_Sᵀ)⁻¹ (G_P w_P − α 1_N) with α = 1, or 1/m for rows that are means over m samples."""
    dense = Dense(kind, "network", 1e-2, mini_batch)
    result = dense.run(update="joint")
    keep = result.mask.keep
    kept, gone = dense.rows[:, keep], dense.rows[:, ~keep]
    target = gone @ dense.weights[~keep] - torch.ones(dense.num_rows, dtype=torch.float64) / mini_batch
    system = dense.num_rows * dense.damping * torch.eye(dense.num_rows, dtype=torch.float64) + kept @ kept.T
    wanted = dense.weights[keep] + kept.T @ torch.linalg.solve(system, target)
    assert norm_error(result.weights[keep].double(), wanted) <= 1e-5


@each_kind
@each_block
@each_damping
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_independent_step_is_the_official_one(kind, block, damping, scale):
    """δ = s·F⁻¹u − h with u_q = −(w_q − h_q)/d_q on the pruned set: corrections summed, the gradient step taken once."""
    dense = Dense(kind, block, damping)
    result = dense.run(update="independent", update_scale=scale)
    keep, h = result.mask.keep, dense.inverse @ dense.gradient
    step = -h
    for q in (~keep).nonzero().squeeze(1).tolist():
        step = step - scale * (dense.weights[q] - h[q]) / dense.inverse[q, q] * dense.inverse[:, q]
    wanted = torch.where(keep, dense.weights + step, 0.0)
    assert norm_error(result.weights.double(), wanted) <= 1e-5


@each_kind
def test_without_an_update_survivors_stay(kind):
    """The mask alone takes no gradient step."""
    dense = Dense(kind, "layer", 1e-2)
    result = dense.run(update="none")
    assert torch.equal(result.weights[result.mask.keep].double(), dense.weights[result.mask.keep])
    assert not result.weights[~result.mask.keep].any()


@each_kind
def test_nothing_pruned_is_the_newton_step(kind):
    """At sparsity 0 what is left is w − F⁻¹ḡ, which lowers the quadratic model."""
    dense = Dense(kind, "network", 1e-1)
    for update in ("joint", "independent"):
        result = dense.run(sparsity=0.0, update=update)
        assert norm_error(result.weights.double(), dense.weights - dense.inverse @ dense.gradient) <= 1e-6


def test_much_damping_is_woodfisher():
    """As λ grows the step shrinks to nothing, and the statistic ranks as WoodFisher's does."""
    dense = Dense("mlp", "layer", 1e6)
    woodfisher = prune(
        network("mlp"), [batch("mlp", 20)], num_samples=20, damping=1e6, sparsity=0.6, update="joint", device="cpu"
    )
    result = dense.run()
    assert torch.equal(result.mask.keep, woodfisher.mask.keep)
    assert norm_error(result.weights, woodfisher.weights) <= 1e-6
    small = Dense("mlp", "layer", 1e-3).run()
    assert not torch.equal(small.mask.keep, woodfisher.mask.keep)


@pytest.mark.parametrize("update", ["none", "independent", "joint"])
def test_weights_that_are_gone_stay_where_they_are(update):
    """No gradient step moves a weight that was pruned before, and none comes back."""
    dense = Dense("conv", "network", 1e-2)
    gone = torch.rand(len(dense.weights), generator=torch.Generator().manual_seed(6)) < 0.4
    result = dense.run(keep=~gone, update=update, sparsity=0.7)
    assert not result.weights[gone].any()
    assert not (result.mask.keep & gone).any()
    assert not result.saliency[gone].any()
