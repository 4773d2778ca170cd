"""A small convolutional network with BatchNorm, for everything that Linear layers alone do not show."""

from torch import Tensor, nn

from woodfisher_core.models.base import ModelSpec, TrainingRecipe


class DigitsCNN(nn.Module):
    """Three 3×3 convolutions (8, 16, 32 channels) with BatchNorm, mean pooling, one Linear; (n, 1, 8, 8) to (n, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, stride=2, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False)
        self.bn3 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = self.bn2(self.conv2(x)).relu()
        x = self.bn3(self.conv3(x)).relu()
        return self.fc(x.mean((2, 3)))


SPEC = ModelSpec(
    name="digits-cnn",
    label="Digits CNN with BatchNorm (6.2k weights)",
    description="Three 3×3 convolutions with BatchNorm and one linear layer.",
    datasets="digits",
    build=DigitsCNN,
    recipe=TrainingRecipe(epochs=60, learning_rate=5e-3, weight_decay=1e-3),
)
