"""Small networks for structured pruning, each odd in one way, with BatchNorm statistics and γ, β that are not trivial."""

import torch
from cases import seeded
from torch import Tensor, nn


class ResidualNet(nn.Module):
    """A stem and one residual block with BatchNorm on (n, 1, 6, 6)."""

    def __init__(self):
        super().__init__()
        self.groups = 2  # torchvision's ResNet calls something so that is no convolution
        self.conv1, self.bn1 = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 4, 3, padding=1, stride=1), nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = (x + self.bn3(self.conv3(self.bn2(self.conv2(x)).relu()))).relu()
        return self.fc(x.mean((2, 3)))


class FlatNet(nn.Module):
    """A convolution that reaches a Linear layer through pooling and flatten: four columns a channel; (n, 1, 6, 6)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc1 = nn.Linear(16, 6)
        self.fc2 = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv(x).relu(), 2).flatten(1)
        return self.fc2(self.fc1(x).relu())


class ConcatNet(nn.Module):
    """Two branches side by side, read as one by a third convolution."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(1, 3, 3)
        self.right = nn.Conv2d(1, 4, 3)
        self.both = nn.Conv2d(7, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x).relu(), self.right(x).tanh()], dim=1)
        return self.fc(self.both(x).relu().mean((2, 3)))


class ForkedNet(nn.Module):
    """Gates its channels by others (an element-wise product), and ends in log-softmax."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.squeeze = nn.Linear(4, 3)
        self.excite = nn.Linear(3, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        gate = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        return self.fc((x * gate[:, :, None, None]).mean((2, 3))).log_softmax(1)


class ChannelsLastFlat(nn.Module):
    """Flattens with the channels innermost, which the dependency graph does not see; fc1's own channels are sound."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc1 = nn.Linear(64, 6)
        self.fc2 = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.conv(x).relu().permute(0, 2, 3, 1).flatten(1)).relu())


class FixedSize(nn.Module):
    """Writes a layer's size into its forward pass."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.fc2(self.fc1(x).relu().view(-1, 8)).relu())


class AddsInput(nn.Module):
    """Adds the input to a layer's output, so that this layer must keep the input's width."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.fc2(x + self.fc1(x).relu()).relu())


def sigmoid_mlp() -> nn.Module:
    """A zeroed channel sends sigmoid(0) = ½ on."""
    return nn.Sequential(
        nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 5), nn.BatchNorm1d(5), nn.Sigmoid(), nn.Linear(5, 3)
    )


def separable() -> nn.Module:
    """A depthwise convolution between two ordinary ones, with BatchNorm and PReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.PReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.BatchNorm2d(4, affine=False),
        nn.Sigmoid(),
        nn.Conv2d(4, 5, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def grouped() -> nn.Module:
    """A convolution in two groups, which must lose channels in pairs on both sides."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def signal() -> nn.Module:
    """One-dimensional convolutions on (n, 2, 9)."""
    return nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 5, 3), nn.Flatten(), nn.Linear(25, 3)
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 3))


BUILDERS = {
    "mlp": mlp,
    "sigmoid": sigmoid_mlp,
    "residual": ResidualNet,
    "flat": FlatNet,
    "concat": ConcatNet,
    "gated": ForkedNet,
    "separable": separable,
    "grouped": grouped,
    "signal": signal,
}
SHAPES = {"mlp": (6,), "sigmoid": (6,), "signal": (2, 9)}


def settled(model: nn.Module, seed: int = 3) -> nn.Module:
    """``model`` in eval mode with random BatchNorm statistics, γ and β."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0.0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            if module.affine:
                module.weight.data.normal_(1.0, 0.3, generator=generator)
                module.bias.data.normal_(0.0, 0.3, generator=generator)
    return model.eval()


def build(kind: str) -> nn.Module:
    """The network ``kind``, the same every time."""
    return settled(seeded(BUILDERS[kind]))


def inputs(kind: str, count: int, seed: int = 1) -> Tensor:
    """Random inputs for it."""
    shape = SHAPES.get(kind, (1, 6, 6))
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def data(kind: str, count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random inputs and targets among two classes."""
    targets = torch.randint(2, (count,), generator=torch.Generator().manual_seed(seed + 100))
    return inputs(kind, count, seed), targets
