"""Where G will live and what a run will take, decided and said before it starts.

In memory where it fits the budget, else in a file where the disk has room, else recomputed for every part. The budget bounds
the peak of everything a run adds to the process: G or the part of it in use, the solver's matrices, the flat vectors, one
chunk of gradients with its activations.
"""

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from woodfisher_core import memory
from woodfisher_core.devices import compute_device
from woodfisher_core.errors import InputError, MemoryBudgetError
from woodfisher_core.fisher import Blocks, Span, cut
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.gradients import default_chunk
from woodfisher_core.memory import gib
from woodfisher_core.options import Choice, DampingScale, Solver, Update
from woodfisher_core.timing import best_seconds, float64_rate

# Part of the free disk a scratch file may take.
DISK_SHARE = 0.9
# Bytes of G read at a time from a file: more gains nothing, the arithmetic is per block.
SPILLED_PART = 1 << 28
# Columns of the narrowest part worth reading.
LEAST_COLUMNS = 512
# What one sample's forward and backward pass hold, in multiples of all module outputs: saved inputs, their gradients, the copies
# the per-sample transform makes, and what the convolution library packs (MobileNetV1 took 1.1 GiB where 4 foretold 0.7).
ACTIVATION_COPIES = 8
# Part of the budget one chunk of gradients and its activations may take.
MAKING_SHARE = 0.25
# Arithmetic of a symmetric eigendecomposition with vectors, of a Cholesky factorisation with its inverse, in n³.
EIGH_CUBES, CHOLESKY_CUBES = 20.0, 2.0
# Copies of a chunk of rows while it is made, checked and stored.
ROW_COPIES = 3


class Storage(Choice):
    """Where the gradients are between their making and their last use."""

    MEMORY = ("memory", "In memory", "All of G at once; the fastest.")
    SPILLED = ("spilled", "Spilled to a file", "Made once, written to a scratch file, read back a part at a time.")
    RECOMPUTED = ("recomputed", "Recomputed", "Made again for every part that is needed: no disk, more time.")


@dataclass(frozen=True)
class Rates:
    """This machine's: ``gradient`` seconds a sample, ``arithmetic`` float64 operations a second, ``disk`` bytes a second."""

    gradient: float
    arithmetic: float
    disk: float


@dataclass(frozen=True)
class Plan:
    """How a run will be done: ``spans`` cut G where it is streamed, ``chunk`` rows are made together, ``passes`` read all of G.

    ``seconds`` is None where no rates were measured.
    """

    storage: Storage
    num_rows: int
    dim: int
    spans: tuple[Span, ...]
    passes: int
    peak_bytes: int
    gradient_bytes: int
    chunk: int
    allowed: int
    seconds: float | None = None

    @property
    def disk_bytes(self) -> int:
        """Size of the scratch file."""
        return self.gradient_bytes if self.storage is Storage.SPILLED else 0

    def describe(self) -> str:
        """One sentence for people."""
        text = f"G ({self.num_rows:,} × {self.dim:,}, {gib(self.gradient_bytes)}) "
        if self.storage is Storage.MEMORY:
            text += "stays in memory"
        elif self.storage is Storage.SPILLED:
            text += f"goes to a scratch file of {gib(self.disk_bytes)}, read {self.passes} times in {self._parts} parts"
        else:
            text += f"is recomputed {self.passes} times in {self._parts} parts"
        text += f"; at most about {gib(self.peak_bytes)} of memory for its numbers (budget {gib(self.allowed)})"
        return text + ("." if self.seconds is None else f", about {_duration(self.seconds)}.")

    @property
    def _parts(self) -> int:
        return sum(len(span.parts) for span in self.spans)


@dataclass(frozen=True)
class Task:
    """What a plan is made for."""

    num_rows: int
    mini_batch: int
    blocks: Blocks
    solver: Solver
    update: Update
    damping_scale: DampingScale
    itemsize: int
    activation_bytes: int
    input_bytes: int

    @property
    def passes(self) -> int:
        """How often all of G is looked at: the diagonal, the update, the prediction, and the mean curvature."""
        return 2 + (self.update is not Update.NONE) + (self.damping_scale is DampingScale.RELATIVE)

    @property
    def gradient_bytes(self) -> int:
        return self.num_rows * self.blocks.dim * self.itemsize

    def chunk(self, allowed: int) -> int:
        """Rows of gradients made together: the usual number, or fewer where their activations are large."""
        usual = min(self.num_rows, default_chunk(self.blocks.dim, 4))
        return max(1, min(usual, int(MAKING_SHARE * allowed) // self.making_bytes(1)))

    def making_bytes(self, chunk: int) -> int:
        """``chunk`` gradient rows while they are made, with the activations behind them."""
        return chunk * (ROW_COPIES * 4 * self.blocks.dim + self.mini_batch * self.activation_bytes)


def inverse_operations(num_rows: int, blocks: Blocks, solver: Solver) -> float:
    """Floating-point operations of Gram matrices, factors or spectra, and products, for one diagonal of F⁻¹."""
    total = 0.0
    for run in blocks.runs:
        dual = solver is Solver.DUAL or (solver is not Solver.PRIMAL and num_rows < run.size)
        small, large = (num_rows, run.size) if dual else (run.size, num_rows)
        products = 3.0 if dual else 2.0  # half the symmetric Gram matrix, then the spectral or triangular product
        cubes = EIGH_CUBES if solver is Solver.SPECTRAL else CHOLESKY_CUBES
        total += run.count * (products * small * small * large + cubes * small**3)
    return total


def make_plan(
    task: Task,
    allowed: int,
    *,
    storage: Storage | None = None,
    scratch: str | Path | None = None,
    rates: Rates | None = None,
) -> Plan:
    """The plan that fits ``allowed`` bytes; ``storage`` None chooses the fastest that does.

    Raises:
        MemoryBudgetError: Nothing fits, naming the smallest budget that would; or the disk has too little room.
    """
    full = memory.predict(task.num_rows, task.blocks, task.solver, task.itemsize)
    chunk = task.chunk(allowed)
    whole = full.total + task.making_bytes(chunk)
    if storage in (None, Storage.MEMORY):
        if whole <= allowed:
            return _timed(task, Storage.MEMORY, (), whole, chunk, allowed, rates)
        if storage is Storage.MEMORY:
            raise MemoryBudgetError(
                f"memory: {task.num_rows:,} gradients of {task.blocks.dim:,} weights held in memory need {gib(whole)}, the "
                f"budget is {gib(allowed)}. Raise the budget, or let storage be automatic."
            )
    if storage is None:
        storage = Storage.SPILLED if task.gradient_bytes <= _disk_room(scratch) else Storage.RECOMPUTED
    elif storage is Storage.SPILLED and task.gradient_bytes > _disk_room(scratch):
        raise MemoryBudgetError(
            f"scratch file: the gradients need {gib(task.gradient_bytes)}, {scratch or tempfile.gettempdir()} has room for "
            f"{gib(_disk_room(scratch))}. Choose another folder (scratch), or storage 'recomputed'."
        )
    return _streamed(task, storage, allowed, rates)


def _streamed(task: Task, storage: Storage, allowed: int, rates: Rates | None) -> Plan:
    """As wide a part at a time as fits."""
    whole = task.solver is Solver.SPECTRAL

    def need(width: int, chunk: int) -> int:
        making = task.making_bytes(chunk)
        used = 0
        for run in task.blocks.runs:
            count = max(1, min(run.count, width // run.size))
            parted = task.num_rows < run.size and not whole
            columns = min(width if parted else max(width, run.size), task.blocks.dim)
            solver = memory.predict(task.num_rows, Blocks((Run(0, count, run.size),)), task.solver, task.itemsize, 0)
            used = max(used, task.num_rows * columns * task.itemsize + solver.solver + solver.workspace)
        vectors = memory.VECTORS * 8 * task.blocks.dim
        held = task.input_bytes if storage is Storage.RECOMPUTED else 0
        # Memory once taken for making rows is not given back at once, so both count even where they do not overlap.
        return vectors + held + used + making

    low = min(LEAST_COLUMNS, task.blocks.dim)
    high = task.blocks.dim
    if storage is Storage.SPILLED:
        high = max(low, min(high, SPILLED_PART // (task.num_rows * task.itemsize)))
    chunk = task.chunk(allowed)
    while chunk > 1 and need(low, chunk) > allowed:
        chunk //= 2
    smallest = need(low, chunk)
    if smallest > allowed:
        raise MemoryBudgetError(
            f"memory: the budget of {gib(allowed)} is too small even for one block at a time; the smallest that works here is "
            f"{gib(smallest)}. Raise it, or lower the block size or the number of samples"
            + (", or choose the solver 'auto'." if whole else ".")
        )
    while low < high:
        middle = (low + high + 1) // 2
        if need(middle, chunk) <= allowed:
            low = middle
        else:
            high = middle - 1
    spans = cut(task.blocks, task.num_rows, low, whole)
    return _timed(task, storage, spans, need(low, chunk), chunk, allowed, rates)


def _timed(
    task: Task, storage: Storage, spans: tuple[Span, ...], peak: int, chunk: int, allowed: int, rates: Rates | None
) -> Plan:
    parts = sum(len(span.parts) for span in spans)
    # A block in several parts is read for its Gram matrix, and again for what the matrix is used on.
    passes = task.passes * (1 + any(len(span.parts) > 1 for span in spans)) if spans else task.passes
    seconds = None
    if rates is not None:
        makings = passes * parts if storage is Storage.RECOMPUTED else 1
        seconds = makings * task.num_rows * task.mini_batch * rates.gradient
        seconds += (
            (1 + (task.update is not Update.NONE))
            * inverse_operations(task.num_rows, task.blocks, task.solver)
            / rates.arithmetic
        )
        if storage is Storage.SPILLED:
            seconds += (1 + passes) * task.gradient_bytes / rates.disk
    return Plan(
        storage, task.num_rows, task.blocks.dim, spans, passes, peak, task.gradient_bytes, chunk, allowed, seconds
    )


def activation_bytes(model: nn.Module, inputs: Tensor) -> int:
    """Bytes one sample's forward and backward pass may hold: every leaf module's output, a few times."""
    total = 0

    def count(module: nn.Module, args: tuple, output: object) -> None:
        nonlocal total
        total += output.nbytes if isinstance(output, Tensor) else 0

    hooks = [module.register_forward_hook(count) for module in model.modules() if not list(module.children())]
    try:
        with torch.no_grad():
            model(inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return ACTIVATION_COPIES * total + inputs[:1].nbytes


def parse_storage(value: str | None) -> Storage | None:
    """``auto`` or None for the fastest that fits, else one of :class:`Storage`."""
    return None if value in (None, "auto") else Storage.parse(value, "storage")


def measure(
    gradient: Callable[[], object], samples: int, storage: Storage, scratch: str | Path | None, device: torch.device
) -> Rates:
    """Rates from one run of ``gradient`` (over ``samples`` samples), one small product and, for spilling, a small file."""
    block = bytes(1 << 25)

    def write() -> None:
        with tempfile.TemporaryFile(dir=scratch, buffering=0) as file:
            file.write(block)

    disk = 0.0
    if storage is Storage.SPILLED:
        try:
            disk = len(block) / best_seconds(write, 2)
        except OSError as error:
            raise MemoryBudgetError(
                f"scratch file: writing to {scratch or tempfile.gettempdir()} failed ({error.strerror}). Choose another "
                "folder (scratch), or storage 'recomputed'."
            ) from error
    return Rates(
        gradient=best_seconds(gradient, 2, device) / samples,
        arithmetic=float64_rate(compute_device(device)),
        disk=disk,
    )


def check_scratch(scratch: str | Path | None) -> None:
    """Raises an InputError where the folder for scratch files is not there."""
    if scratch is not None and not Path(scratch).is_dir():
        raise InputError(f"scratch: expected a folder that exists, got {str(scratch)!r}.")


def _disk_room(scratch: str | Path | None) -> int:
    return int(DISK_SHARE * shutil.disk_usage(scratch or tempfile.gettempdir()).free)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{max(1, math.ceil(seconds))} s"
