"""A 2,720-weight classroom network: small enough for the full inverse Fisher as one dense matrix."""

from torch import Tensor, nn

from woodfisher_core.models.base import ModelSpec, TrainingRecipe


class DigitsMLP(nn.Module):
    """64-32-16-10 with ReLU and biases; input (n, 1, 8, 8), output logits (n, 10)."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 16)
        self.fc3 = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x.flatten(1)).relu()
        x = self.fc2(x).relu()
        return self.fc3(x)


SPEC = ModelSpec(
    name="digits-mlp",
    label="Digits MLP (2.7k weights)",
    description="64-32-16-10 fully connected network; the whole inverse Fisher fits in one dense matrix.",
    datasets="digits",
    build=DigitsMLP,
    recipe=TrainingRecipe(epochs=60, learning_rate=2e-3, weight_decay=1e-3),
)
