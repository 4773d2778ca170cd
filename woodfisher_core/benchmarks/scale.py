"""A network of ImageNet size pruned once within a memory budget: time by phase, predicted beside measured memory and disk.

Fresh seeded weights and synthetic images: what it takes depends on neither. Nothing is said about accuracy.
"""

import time
from collections.abc import Callable

from torch import nn
from torchvision.models import resnet50

from woodfisher_core import memory, prune
from woodfisher_core.benchmarks.images import SeededImages, seeded, settle
from woodfisher_core.benchmarks.operations import diagonal_operations, gradient_operations
from woodfisher_core.benchmarks.peak import PeakDisk, PeakMemory
from woodfisher_core.benchmarks.timing import gemm_rate
from woodfisher_core.devices import resolve_device
from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.fisher import Blocks
from woodfisher_core.memory import gib
from woodfisher_core.models import mobilenet_v1
from woodfisher_core.options import parse_block_size
from woodfisher_core.parameters import PrunableParameters

CLASSES = 1000
# Images BatchNorm statistics are taken from, before anything is measured; also the loader's batch.
SETTLE = 16

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet50": lambda: resnet50(weights=None, num_classes=CLASSES),
    "mobilenet-v1": lambda: mobilenet_v1.build(CLASSES),
}


def run(
    model: str,
    *,
    num_samples: int = 400,
    block_size: int | str = 2000,
    image_size: int = 224,
    memory_budget: int | None = None,
    storage: str | None = None,
    scratch: str | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
    **options,
) -> dict[str, object]:
    """The run as plain JSON values.

    Args:
        model: A name in ``NETWORKS``.
        num_samples: N, one image a row.
        block_size: A number, ``layer`` or ``network``.
        image_size: Height and width of the images.
        memory_budget: Bytes the run may add to the process; a share of the free memory by default.
        storage: Where gradients are kept: ``memory``, ``spilled`` or ``recomputed``; the fastest that fits by default.
        scratch: Folder of the scratch file; the system's by default.
        device: ``auto``, ``cpu`` or ``cuda``.
        say: Told the plan before work starts, and how it goes.
        options: Further fields of :class:`woodfisher_core.pruning.PruneOptions`: update, sparsity, damping, …

    Raises:
        InputError: A value cannot be used; MemoryBudgetError: no plan fits the budget.
    """
    if model not in NETWORKS:
        raise InputError(f"model: expected one of {', '.join(NETWORKS)}, got {model!r}.")
    if image_size < 32:
        raise InputError(f"image size: expected at least 32 pixels, got {image_size}.")
    options = {"block_size": parse_block_size(block_size), **options}
    where = resolve_device(device)
    images = SeededImages(max(num_samples, SETTLE), image_size, CLASSES, batch=SETTLE)
    inputs, targets = (part.to(where) for part in next(iter(images)))
    network = settle(seeded(NETWORKS[model]).to(where), inputs).requires_grad_(False)
    parameters = PrunableParameters.from_model(network)
    operations = {
        "gradients": num_samples * gradient_operations(network, parameters, inputs[:1], targets[:1]),
        "inverse": diagonal_operations(num_samples, Blocks.of(parameters, options["block_size"])),
    }
    del inputs, targets
    allowed, before = memory.budget(memory_budget, where), gemm_rate(where)
    with PeakMemory(where) as peak, PeakDisk() as disk:
        start = time.perf_counter()
        result = prune(
            network,
            images,
            num_samples=num_samples,
            device=where,
            memory_budget=allowed,
            storage=storage,
            scratch=scratch,
            say=say,
            progress=_tenths(num_samples, say),
            **options,
        )
        wall = time.perf_counter() - start
    after = gemm_rate(where)
    rate = (before.float32 + after.float32) / 2 * 1e9
    counted = [phase for phase in result.seconds if phase in operations]
    return {
        "benchmark": "scale",
        "machine": machine(where),
        "model": model,
        "num_prunable": parameters.num_prunable,
        "num_samples": num_samples,
        "image_size": image_size,
        "options": options,
        "sparsity": result.sparsity,
        "memory_budget": allowed,
        "gflops": {"before": vars(before), "after": vars(after)},
        "wall_seconds": wall,
        "seconds": result.seconds,
        "operations": {phase: operations[phase] for phase in counted},
        "share_of_float32_product_rate": {phase: operations[phase] / result.seconds[phase] / rate for phase in counted},
        "plan": result.plan.describe(),
        "storage": str(result.plan.storage),
        "predicted": {
            "peak_bytes": result.plan.peak_bytes,
            "disk_bytes": result.plan.disk_bytes,
            "seconds": result.plan.seconds,
        },
        "measured": {"peak_bytes": peak.extra_bytes, "disk_bytes": disk.extra_bytes},
    }


def _tenths(total: int, say: Callable[[str], None]) -> Callable[[int], None]:
    """A progress callback that speaks ten times a pass over the samples."""
    spoken = 0

    def progress(done: int) -> None:
        nonlocal spoken
        tenth = 10 * done // total
        if tenth != spoken:
            say(f"{done:,} of {total:,} gradients")
        spoken = tenth

    return progress


def to_markdown(result: dict) -> str:
    """One row a phase, then memory, disk and time, predicted beside measured."""
    where, rates = result["machine"], result["gflops"]
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["options"].items())
    lines = [
        f"### {result['model']}: {result['num_prunable']:,} prunable weights, N = {result['num_samples']:,}, images of "
        f"{result['image_size']}²",
        "",
        f"{options}. {where['cpu']}, {where['threads']} threads of {where['cpus']} CPUs, device {where['device']}, torch "
        f"{where['torch']}. Float32 products before and after: {rates['before']['float32']:,.0f} and "
        f"{rates['after']['float32']:,.0f} GFLOP/s.",
        "",
        "| phase | minutes | operations (10⁹) | share of the float32 product rate |",
        "|---|---:|---:|---:|",
    ]
    for phase, seconds in result["seconds"].items():
        done = " | "
        if phase in result["operations"]:
            share = result["share_of_float32_product_rate"][phase]
            done = f"{result['operations'][phase] / 1e9:,.4g} | {share:.0%}"
        lines.append(f"| {phase} | {_minutes(seconds)} | {done} |")
    predicted, measured = result["predicted"], result["measured"]
    lines += [
        f"| all | {_minutes(result['wall_seconds'])} | | |",
        "",
        "| | predicted | measured |",
        "|---|---:|---:|",
        f"| peak memory | {_bytes(predicted['peak_bytes'])} | {_bytes(measured['peak_bytes'])} |",
        f"| disk | {_bytes(predicted['disk_bytes'])} | {_bytes(measured['disk_bytes'])} |",
        f"| minutes | {_minutes(predicted['seconds'])} | {_minutes(result['wall_seconds'])} |",
        "",
        f"Plan: {result['plan']}",
        "Operations count one pass of gradients and one diagonal of the inverse; what a plan makes twice it pays twice.",
    ]
    return "\n".join(lines)


def _bytes(count: int | None) -> str:
    return "not known" if count is None else gib(count)


def _minutes(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{seconds / 60:.2f}"
