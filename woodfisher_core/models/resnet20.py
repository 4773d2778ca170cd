"""ResNet-20, the CIFAR network of He et al. 2016 (sec. 4.2), with the layer names of the WoodFisher authors' checkpoint."""

from torch import Tensor, nn
from torch.nn.functional import relu

from woodfisher_core.models.base import ModelSpec, TrainingRecipe

# (channels, stride of the stage's first block); three blocks of two 3×3 convolutions each.
STAGES = ((16, 1), (32, 2), (64, 2))
BLOCKS = 3


def conv3x3(channels_in: int, channels: int, stride: int) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size at stride 1, without bias (BatchNorm follows)."""
    return nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """relu(shortcut(x) + BN(conv(relu(BN(conv(x)))))).

    Where the shape changes the shortcut is a strided 1×1 convolution with BatchNorm (option B, the checkpoint's), else x.
    """

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels_in, channels, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels, 1), nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            projection = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = relu(self.bn1(self.conv1(x)))
        return relu(shortcut + self.bn2(self.conv2(x)))


class ResNet20(nn.Module):
    """Images (n, 3, 32, 32) to logits (n, ``num_classes``): 270,896 prunable weights at 10 classes, 272,474 parameters."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(3, STAGES[0][0], 1), nn.BatchNorm2d(STAGES[0][0])
        before = STAGES[0][0]
        for number, (channels, stride) in enumerate(STAGES, start=1):
            blocks = [BasicBlock(before, channels, stride)]
            blocks += [BasicBlock(channels, channels, 1) for _ in range(BLOCKS - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            before = channels
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # He et al. 2015, eq. 14: the variance of the gradients is kept from layer to layer.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def build(num_classes: int = 10) -> nn.Module:
    """The network, freshly initialised from torch's global generator, in training mode."""
    return ResNet20(num_classes)


SPEC = ModelSpec(
    name="resnet20",
    label="ResNet-20 (271k weights)",
    description="The CIFAR network of He et al.: nineteen 3×3 convolutions with BatchNorm and shortcuts, one linear layer.",
    datasets=("cifar10", "cifar10-jpeg"),
    build=build,
    # A step of 128 takes 0.19 s with one thread so, 0.49 s in float32 with channels first (AMX, Xeon): 74 s an epoch.
    recipe=TrainingRecipe(
        epochs=36,
        batch_size=128,
        learning_rate=0.2,
        weight_decay=5e-4,
        optimizer="sgd",
        augment=True,
        precision="bfloat16",
    ),
)
