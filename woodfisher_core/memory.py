"""How much memory a run will take, how much there is, and how much was taken."""

import sys
from dataclasses import dataclass

import psutil
import torch

from woodfisher_core.fisher import Blocks
from woodfisher_core.fisher.groups import CHUNK_BYTES, CHUNK_COLUMNS
from woodfisher_core.options import Solver

# The default budget: this share of the memory that is free when the run starts.
DEFAULT_SHARE = 0.7
# Flat float64 vectors (d,) alive at once while weights are scored, sorted and updated.
VECTORS = 10
# Of the machine's memory, but no less than a network of MLPNet's size needs. ResNet-20 with 1,000 samples takes 2.3 GiB: where
# that is not kept, every damping takes 12 s instead of 0.2.
CACHE_SHARE, LEAST_CACHE_BYTES = 0.25, 2 << 30


@dataclass(frozen=True)
class MemoryNeed:
    """Predicted peak bytes of a run: gradient ``rows``, what the ``solver`` holds, and passing ``workspace``."""

    rows: int
    solver: int
    workspace: int

    @property
    def total(self) -> int:
        return self.rows + self.solver + self.workspace


def predict(
    num_rows: int, blocks: Blocks, solver: Solver = Solver.AUTO, itemsize: int = 4, vectors: int = VECTORS
) -> MemoryNeed:
    """Bytes for ``num_rows`` rows of ``itemsize``-byte gradients over ``blocks``, float64 matrices and flat ``vectors``."""
    held = largest = 0
    for run in blocks.runs:
        dual = solver is Solver.DUAL or (solver is not Solver.PRIMAL and num_rows < run.size)
        side = num_rows if dual else run.size
        held += run.count * 2 * 8 * side * side  # the matrix and its factor or eigenvectors
        largest = max(largest, 8 * side * side)  # the damped matrix, while it is factored
        if solver is Solver.SPECTRAL and dual:
            held += 2 * run.count * run.size * num_rows * 4  # float32, from float32 products and from float64 ones
    rows = num_rows * blocks.dim * itemsize
    chunk = max(CHUNK_BYTES, 8 * CHUNK_COLUMNS * num_rows)
    return MemoryNeed(rows, held, min(4 * chunk, 3 * rows) + largest + vectors * 8 * blocks.dim)


def budget(given: int | None, device: torch.device) -> int:
    """The budget in bytes: ``given``, else a share of what is free on the device."""
    if given is not None:
        return given
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return int(DEFAULT_SHARE * free)


def cache_bytes() -> int:
    """What a workspace that many settings share for long may keep."""
    return max(LEAST_CACHE_BYTES, int(CACHE_SHARE * psutil.virtual_memory().total))


def gib(count: int | float) -> str:
    """``count`` bytes for people: ``1.5 GiB``, ``20 MiB``."""
    for unit, size in (("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def resident_bytes() -> int:
    """Memory the process holds now."""
    return psutil.Process().memory_info().rss


def peak_resident_bytes() -> int:
    """The most memory the process has held since it began."""
    if sys.platform == "linux":
        # VmHWM belongs to this program image; getrusage's maximum would inherit the parent's across exec.
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
