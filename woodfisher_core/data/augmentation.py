"""Training images varied at random: shifted by a few pixels and mirrored, a whole batch at once."""

import torch
from torch import Tensor
from torch.nn.functional import pad

# How far an image is shifted at most, in pixels (He et al. 2016, sec. 4.2).
SHIFT = 4


def augmented(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """``inputs`` (n, C, H, W), each shifted by up to 4 pixels over zeros (the mean colour) and mirrored or not, at random."""
    count, channels, height, width = inputs.shape
    padded = pad(inputs, (SHIFT,) * 4)
    corner = torch.randint(2 * SHIFT + 1, (2, count, 1), generator=generator)
    mirror = torch.randint(2, (count, 1), generator=generator).bool()
    rows = corner[0] + torch.arange(height)
    columns = corner[1] + torch.where(mirror, torch.arange(width - 1, -1, -1), torch.arange(width))
    image, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
