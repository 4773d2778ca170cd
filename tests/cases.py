"""The nasty cases every Fisher test shares: real per-sample gradients of small networks, each odd in one way."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from woodfisher_core.fisher import Blocks
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.methods import METHODS
from woodfisher_core.parameters import PrunableParameters

DAMPINGS = (1e-8, 1e-5, 1e-3, 1.0)


class ConvNet(nn.Module):
    """Two convolutions with BatchNorm and a linear layer on (n, 1, 6, 6); d = 27 + 108 + 12."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv1(x)).relu()
        return self.fc(self.conv2(x).relu().mean((2, 3)))


class TiedNet(nn.Module):
    """One 8×8 weight used twice, and a head; d = 64 + 24."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).tanh()).tanh())


def mlp() -> nn.Module:
    """6-10-5-3 with ReLU; d = 60 + 50 + 15."""
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 3))


def mlp_with_dead_units(dead: int) -> nn.Module:
    """The MLP with ``dead`` of its ten first units never active, so that 11 columns of G a unit are zero."""
    model = mlp()
    with torch.no_grad():
        model[0].bias[:dead] = -1e3
        model[0].bias[dead:] = 2.0
        model[2].bias.fill_(1.0)
    return model


SHAPES = {"mlp": (6,), "conv": (1, 6, 6), "tied": (8,)}


def seeded(build, seed: int = 0):
    """``build()`` under a seed, without touching the process's own random stream."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def batch(kind: str, count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random inputs for a network of ``kind`` and targets among three classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, *SHAPES[kind], generator=generator)
    return inputs, torch.randint(3, (count,), generator=generator)


@cache
def network(kind: str, dead: int = 0) -> nn.Module:
    """A small network in eval mode, its BatchNorm statistics those of random inputs. Shared: never change it."""
    builders = {"mlp": lambda: mlp_with_dead_units(dead) if dead else mlp(), "conv": ConvNet, "tied": TiedNet}
    model = seeded(builders[kind])
    with torch.no_grad():
        model.train()(batch(kind, 64, seed=9)[0])
    return model.eval()


def takes(method: str, kind: str) -> bool:
    """Whether ``method`` can work on ``kind``: no whole channel of the tied network can go."""
    return not (METHODS[method].removes_channels and kind == "tied")


@dataclass(frozen=True)
class Case:
    """One case: which network, how many rows N, which blocks, and what is odd about it."""

    name: str
    kind: str
    num_rows: int
    block: int | str
    dead: int = 0
    distinct: int | None = None
    pruned_before: float = 0.0
    scale: float = 1.0

    def __str__(self) -> str:
        return self.name

    @property
    def model(self) -> nn.Module:
        return network(self.kind, self.dead)

    @property
    def parameters(self) -> PrunableParameters:
        return PrunableParameters.from_model(self.model)

    @property
    def blocks(self) -> Blocks:
        return Blocks.of(self.parameters, self.block)

    def rows(self) -> Tensor:
        """G (N, d) float32."""
        inputs, targets = batch(self.kind, self.num_rows)
        if self.distinct:
            picked = torch.arange(self.num_rows) % self.distinct
            inputs, targets = inputs[picked], targets[picked]
        model = self.parameters.placed_in(self.model, self.weights())
        return self.scale * gradient_matrix(model, self.parameters, [(inputs, targets)], self.num_rows)

    def weights(self) -> Tensor:
        """(d,) float32, a share of them already zero."""
        weights = self.parameters.flatten(self.model.state_dict())
        gone = torch.rand(len(weights), generator=torch.Generator().manual_seed(2)) < self.pruned_before
        return weights.masked_fill(gone, 0.0)

    def keep(self, sparsity: float) -> Tensor:
        """(d,) bool, True for a random share 1 − sparsity of the weights."""
        return torch.rand(len(self.weights()), generator=torch.Generator().manual_seed(3)) >= sparsity


CASES = (
    Case("mlp N=1", "mlp", 1, "layer"),
    Case("mlp N=1 network", "mlp", 1, "network"),
    Case("mlp N<B", "mlp", 12, "layer"),
    Case("mlp N<B network", "mlp", 40, "network"),
    Case("mlp N=B", "mlp", 60, "layer"),
    Case("mlp N=d network", "mlp", 125, "network"),
    Case("mlp N>B", "mlp", 150, "layer"),
    Case("mlp N>d network", "mlp", 250, "network"),
    Case("mlp B=1", "mlp", 20, 1),
    Case("mlp B=7 N<B", "mlp", 5, 7),
    Case("mlp B=7 N>B", "mlp", 30, 7),
    Case("mlp B=20 N<B", "mlp", 15, 20),
    Case("mlp B above every layer", "mlp", 25, 1000),
    Case("conv with BatchNorm", "conv", 30, "layer"),
    Case("conv network", "conv", 50, "network"),
    Case("conv B=10", "conv", 25, 10),
    Case("tied", "tied", 20, "layer"),
    Case("tied network N>d", "tied", 100, "network"),
    Case("dead units", "mlp", 20, "network", dead=3),
    Case("dead units, active < N", "mlp", 60, "network", dead=7),
    Case("dead units, active < N, layer", "mlp", 40, "layer", dead=7),
    Case("all dead", "mlp", 20, "layer", dead=10),
    Case("repeated samples", "mlp", 24, "layer", distinct=6),
    Case("repeated samples N>d", "mlp", 200, "network", distinct=30),
    Case("pruned before", "mlp", 30, "network", pruned_before=0.6),
    Case("pruned before B=10", "conv", 15, 10, pruned_before=0.6),
    Case("large gradients", "mlp", 40, "network", scale=30.0),
    Case("large gradients N>B", "mlp", 100, "layer", scale=30.0),
    Case("small gradients", "conv", 40, "network", scale=1e-3),
)
