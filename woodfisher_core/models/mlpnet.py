"""MLPNet, the MNIST network of the WoodFisher, CBS and CHITA papers."""

from torch import Tensor, nn

from woodfisher_core.models.base import ModelSpec, TrainingRecipe


class MLPNet(nn.Module):
    """784-40-20-10 with ReLU and no biases; input (n, 1, 28, 28), output logits (n, 10).

    The official network ends in log-softmax and the NLL loss; logits with cross-entropy are the same function.
    """

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 40, bias=False)
        self.fc2 = nn.Linear(40, 20, bias=False)
        self.fc3 = nn.Linear(20, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x.flatten(1)).relu()
        x = self.fc2(x).relu()
        return self.fc3(x)


SPEC = ModelSpec(
    name="mlpnet",
    label="MLPNet (32k weights)",
    description="784-40-20-10 without biases, the MNIST network of the WoodFisher paper.",
    datasets="mnist",
    build=MLPNet,
    recipe=TrainingRecipe(epochs=20, batch_size=128, learning_rate=2e-3),
)
