"""Random pruning: what any method must beat."""

import numpy as np
import torch
from torch import Tensor

from woodfisher_core.methods.base import Context, Method, Need
from woodfisher_core.options import Update

# Offset from the streams that order samples and draw labels.
STREAM = 0xD1CE


def score(context: Context) -> Tensor:
    """(d,) uniform numbers in [0, 1) of the seed's own stream."""
    drawn = np.random.RandomState((context.seed + STREAM) % 2**32).random_sample(len(context.weights))
    return torch.from_numpy(drawn).to(context.weights.device)


METHOD = Method(
    name="random",
    label="Random",
    help="Removes weights by lot: the floor under every other method. The seed decides.",
    equation=r"\rho_j\sim U(0,1)",
    reference="Blalock et al. 2020",
    unit="lot",
    meaning="It is a lot drawn for each weight.",
    cost=r"O(d)",
    needs=frozenset({Need.SEED}),
    default_update=Update.NONE,
    score=score,
)
