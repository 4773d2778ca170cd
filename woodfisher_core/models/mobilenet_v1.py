"""MobileNetV1 at width 1.0 (Howard et al. 2017, table 1): depthwise-separable convolutions for ImageNet."""

from torch import Tensor, nn
from torch.nn.functional import relu

# (output channels, stride of the depthwise convolution) of the thirteen separable blocks, table 1 of the paper.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
STEM = 32


class Separable(nn.Module):
    """A 3×3 convolution within each channel, then a 1×1 across channels; each followed by BatchNorm and ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.bn1(self.depthwise(x)))
        return relu(self.bn2(self.pointwise(x)))


class MobileNetV1(nn.Module):
    """Images (n, 3, height, width), 224² in the paper, to logits (n, ``num_classes``): 4,231,976 parameters at 1000."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(STEM)
        inputs = (STEM, *(channels for channels, _ in BLOCKS))
        self.blocks = nn.Sequential(
            *(Separable(before, channels, stride) for before, (channels, stride) in zip(inputs, BLOCKS, strict=False))
        )
        self.fc = nn.Linear(inputs[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # He et al. 2015, eq. 14; fan_out counts all output channels, of which each input here meets 1/groups.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                module.weight.data.mul_(module.groups**0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.bn(self.stem(x)))
        return self.fc(self.blocks(x).mean((2, 3)))


def build(num_classes: int = 1000) -> nn.Module:
    """The network, freshly initialised from torch's global generator, in training mode."""
    return MobileNetV1(num_classes)
