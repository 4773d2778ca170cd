"""Synthetic image problems: networks of real size on seeded images, so that a benchmark needs no data set."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import normalize, to_tensor

from woodfisher_core.batchnorm import reestimate
from woodfisher_core.checkpoints import load_into, load_state
from woodfisher_core.data import cifar10
from woodfisher_core.errors import InputError
from woodfisher_core.models import resnet20
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import sample_order

# Images on which BatchNorm statistics are estimated, and images made or differentiated at a time.
SETTLE = 512
BATCH = 64


@dataclass(frozen=True)
class SeededImages:
    """``count`` images (3, size, size) in ``classes`` classes, drawn batch by batch: the same ones at every pass."""

    count: int
    size: int
    classes: int
    seed: int = 0
    batch: int = BATCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, self.count, self.batch):
            count = min(self.batch, self.count - start)
            # Smooth blobs under noise: pure noise would look the same to every unit that averages over the image.
            coarse = torch.randn(count, 3, 4, 4, generator=generator)
            blobs = interpolate(coarse, size=(self.size, self.size), mode="bilinear", align_corners=False)
            noise = torch.randn(count, 3, self.size, self.size, generator=generator)
            yield blobs + 0.5 * noise, torch.randint(self.classes, (count,), generator=generator)


@dataclass(frozen=True)
class ImageProblem:
    """A network in eval mode on its device, its prunable weights (d,), and ``inputs`` (n, 3, h, w) with ``targets`` (n,)."""

    model: nn.Module
    parameters: PrunableParameters
    weights: Tensor
    inputs: Tensor
    targets: Tensor

    def batches(self, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``count`` samples (all by default)."""
        return zip(self.inputs[:count].split(BATCH), self.targets[:count].split(BATCH), strict=True)


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """``build()`` initialised from ``seed``, the caller's random stream untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def settle(model: nn.Module, inputs: Tensor) -> nn.Module:
    """``model`` in eval mode with the BatchNorm statistics of ``inputs`` (n, 3, h, w), in place.

    A fresh network has none, and those of the WoodFisher authors' ResNet-20 do not fit these: signals would grow or die.
    """
    model.load_state_dict(reestimate(model, [inputs]), strict=False)
    return model.eval()


def load_resnet20(
    count: int, device: torch.device, weights: str | None = None, folder: str | None = None
) -> ImageProblem:
    """ResNet-20 with ``count`` images of 32 × 32, whose first give its BatchNorm statistics.

    Args:
        count: Images.
        device: Where everything lies.
        weights: A checkpoint; fresh Kaiming weights where None.
        folder: Real images, one folder a class; seeded synthetic ones where None.
    """
    model = seeded(resnet20.build)
    if weights is not None:
        load_into(model, load_state(weights), weights)
    drawn = SeededImages(count, 32, 10) if folder is None else read_images(folder, count)
    inputs, targets = (torch.cat(parts).to(device) for parts in zip(*drawn, strict=True))
    model = settle(model.to(device), inputs[:SETTLE]).requires_grad_(False)
    parameters = PrunableParameters.from_model(model)
    return ImageProblem(model, parameters, parameters.flatten(model.state_dict()), inputs, targets)


def read_images(folder: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first ``count`` images, in the order of seed 0, of a tree with one folder a class, normalised as CIFAR-10 is.

    Raises:
        InputError: No such tree, too few images, not ten classes, or another size than 32 × 32.
    """
    try:
        images = ImageFolder(folder, transform=_cifar)
    except FileNotFoundError:
        raise InputError(f"images: expected a folder with one folder of images a class, got {folder!r}.") from None
    if len(images.classes) != 10 or len(images) < count:
        raise InputError(
            f"images: expected at least {count:,} in 10 classes, {folder} has {len(images):,} in {len(images.classes)}."
        )
    for chosen in np.array_split(sample_order(len(images), 0)[:count], -(-count // BATCH)):
        inputs, targets = zip(*(images[index] for index in chosen), strict=True)
        yield torch.stack(inputs), torch.tensor(targets)


def _cifar(image: Image) -> Tensor:
    """(3, 32, 32) with CIFAR-10's mean and deviation a channel."""
    if image.size != (32, 32):
        raise InputError(f"images: expected 32 × 32 pixels, got {' × '.join(map(str, image.size))}.")
    return normalize(to_tensor(image), cifar10.MEAN, cifar10.STD)
