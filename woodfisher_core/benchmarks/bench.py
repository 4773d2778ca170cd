"""What every speed case works with: the networks, their gradient rows, and fair measurement."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from woodfisher_core.benchmarks.images import ImageProblem, load_resnet20
from woodfisher_core.benchmarks.peak import PeakMemory
from woodfisher_core.benchmarks.result import Measured
from woodfisher_core.benchmarks.timing import Contestant, interleaved
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.fisher import Blocks
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.timing import Stopwatch

# Gradient rows of ResNet-20 that the large cases share: 1.1 GB.
LARGE_ROWS = 1000


@dataclass(frozen=True)
class Bench:
    """``repeats`` measured turns on ``device``; ``weights`` and ``data_dir`` are MLPNet's.

    ResNet-20 has fresh weights and synthetic images where ``resnet20_weights`` and ``resnet20_images`` are None.
    """

    repeats: int
    device: torch.device
    weights: str
    data_dir: str | None
    resnet20_weights: str | None
    resnet20_images: str | None
    workspace: Workspace
    say: Callable[[str], None]

    def config(self, model: str, num_samples: int = 1) -> PruneConfig:
        own = {"weights": self.weights, "data_dir": self.data_dir} if model == "mlpnet" else {}
        return PruneConfig(model=model, num_samples=num_samples, device=str(self.device), **own)

    def problem(self, model: str) -> Problem:
        return self.workspace.problem(self.config(model))

    def rows(self, model: str, num_samples: int) -> Tensor:
        """G (N, d) of the network's first N training samples in the order of seed 0."""
        return self.workspace.rows(self.config(model, num_samples), Stopwatch(self.device))

    @cached_property
    def resnet20(self) -> ImageProblem:
        """ResNet-20 with as many images as the large cases take."""
        return load_resnet20(LARGE_ROWS, self.device, self.resnet20_weights, self.resnet20_images)

    @property
    def resnet20_label(self) -> str:
        """What it is, for a case's setting."""
        weights = "fresh Kaiming weights" if self.resnet20_weights is None else "the given weights"
        images = "seeded synthetic images" if self.resnet20_images is None else "the given images"
        return f"ResNet-20 ({self.resnet20.parameters.num_prunable:,} weights; {weights}, {images} of 32 × 32)"

    @cached_property
    def resnet20_blocks(self) -> Blocks:
        """One block over the network."""
        return Blocks.of(self.resnet20.parameters, "network")

    @cached_property
    def resnet20_rows(self) -> Tensor:
        """G (1000, 270,896) of ResNet-20, made once for all the cases on it; see :meth:`release`."""
        problem = self.resnet20
        self.say(f"gradients of ResNet-20, N = {LARGE_ROWS:,}")
        return gradient_matrix(problem.model, problem.parameters, problem.batches(), LARGE_ROWS)

    def release(self) -> None:
        """Lets go of the rows of ResNet-20."""
        self.__dict__.pop("resnet20_rows", None)  # where cached_property keeps it

    def measure(self, contestants: Mapping[str, Contestant], rarely: Mapping[str, int] | None = None) -> Measured:
        """Times the contestants in turns, then runs each once more for its peak memory.

        Those in ``rarely`` take so long that they are timed only that many times and their memory is not looked at.
        """
        rarely = rarely or {}
        seconds = interleaved(contestants, self.repeats, self.device, rarely=rarely)
        peaks = {}
        for name, contestant in contestants.items():
            if name not in rarely:
                with PeakMemory(self.device) as peak:
                    kept = contestant()  # what it returns counts
                del kept
                peaks[name] = peak.extra_bytes
        return Measured(seconds, peaks)


def difference(found: Tensor, exact: Tensor) -> float:
    """Largest difference, relative to the largest magnitude."""
    return float((found.double() - exact.double()).abs().max() / exact.double().abs().max())
