"""The published one-shot MLPNet table, computed again: global magnitude (MP) and WoodFisher (WF).

Published numbers: Benbaki et al. (CHITA, ICML 2023), table 1, whose MP and WF columns are those of Yu et al. (CBS, ICML
2022). Setting of the WF column, from the CBS scripts: one Fisher block over the whole network, N = 10,000 single-sample
gradients, λ = 1e-3, independent update scaled by 0.9, one global threshold, no fine-tuning; mean over seeds.
Accuracies in percent on the MNIST test set.
"""

import time
from collections.abc import Callable, Sequence
from statistics import mean, stdev

from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.published import MLPNET_DENSE, MLPNET_SPARSITIES, columns_of

DENSE, SPARSITIES = MLPNET_DENSE, MLPNET_SPARSITIES
MAGNITUDE, WOODFISHER = (one.accuracies for one in columns_of("mlpnet", "mnist"))
# Points of accuracy the mean may lie from the published value: other seeds, other order of samples, other rounding.
TOLERANCE = (0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 1.2)
NUM_SAMPLES = 10_000
SEEDS = (0, 1, 2)
# One seed keeps its gradients (1.3 GB), its Gram matrix and its factor; all of it leaves with the seed's workspace.
CACHE_BYTES = 6 << 30

Say = Callable[[str], None]


def run(
    weights: str,
    data_dir: str | None = None,
    num_samples: int = NUM_SAMPLES,
    seeds: Sequence[int] = SEEDS,
    device: str = "auto",
    memory_budget: int | None = None,
    say: Say = lambda text: None,
) -> dict[str, object]:
    """Both columns as plain JSON values.

    Args:
        weights: The WoodFisher authors' checkpoint ``mnist_25_epoch_93.97.ckpt``.
        data_dir: Folder of MNIST.
        num_samples: N of the WF column; 10,000 is the published setting.
        seeds: One whole run each.
        device: ``auto``, ``cpu`` or ``cuda``.
        memory_budget: Bytes a seed may take; a share of the free memory by default.
        say: Told, in words, what goes on.

    Raises:
        InputError: The file is not that checkpoint, or a value cannot be used; MemoryBudgetError: N is too large here.
    """
    if not seeds:
        raise InputError("seeds: expected at least one, got none.")
    base = PruneConfig(model="mlpnet", weights=weights, data_dir=data_dir, device=device)
    magnitude = _magnitude(base, say)
    settings = base.replace(
        method="woodfisher",
        num_samples=num_samples,
        block_size="network",
        damping=1e-3,
        update="independent",
        update_scale=0.9,
    )
    curves, seconds = {}, {}
    for seed in seeds:
        start = time.perf_counter()
        # A workspace a seed: its gradients and factors are gone before the next one's are made.
        workspace = Workspace(CACHE_BYTES, memory_budget)
        points = workspace.curve(settings.replace(seed=seed), SPARSITIES, _phases(f"seed {seed}", say))
        curves[str(seed)] = [point.accuracy for point in points]
        seconds[str(seed)] = time.perf_counter() - start
        say(f"seed {seed}: {seconds[str(seed)]:.0f} s")
    return {
        "benchmark": "published",
        "machine": machine(device),
        "dense_accuracy": DENSE,
        "config": settings.to_dict(),
        "magnitude": magnitude,
        "woodfisher": woodfisher_rows(curves),
        "seconds_by_seed": seconds,
    }


def _magnitude(base: PruneConfig, say: Say) -> list[dict[str, float]]:
    workspace = Workspace()
    dense = workspace.problem(base).dense.accuracy
    if abs(dense - DENSE) > 0.005:
        raise InputError(
            f"weights: the published numbers belong to the WoodFisher authors' mnist_25_epoch_93.97.ckpt "
            f"({DENSE} % on the test set), {base.weights} reads {dense:.2f} %. Give that file with --weights."
        )
    say("global magnitude")
    points = workspace.curve(base.replace(method="magnitude", update="none"), SPARSITIES)
    return [
        {"sparsity": s, "accuracy": p.accuracy, "published": known, "difference": p.accuracy - known}
        for s, p, known in zip(SPARSITIES, points, MAGNITUDE, strict=True)
    ]


def woodfisher_rows(curves: dict[str, list[float]]) -> list[dict[str, object]]:
    """One row a sparsity from one accuracy curve a seed: mean, spread, difference to the published value, verdict."""
    rows = []
    for index, (sparsity, known, tolerance) in enumerate(zip(SPARSITIES, WOODFISHER, TOLERANCE, strict=True)):
        found = [curve[index] for curve in curves.values()]
        difference = mean(found) - known
        rows.append(
            {
                "sparsity": sparsity,
                "by_seed": dict(zip(curves, found, strict=True)),
                "mean": mean(found),
                "standard_deviation": stdev(found) if len(found) > 1 else None,
                "published": known,
                "difference": difference,
                "tolerance": tolerance,
                "within": abs(difference) <= tolerance,
            }
        )
    return rows


def _phases(name: str, say: Say) -> Callable[[str, int, int], None]:
    def progress(phase: str, done: int, total: int) -> None:
        if phase == "curve":
            say(f"{name}: point {done} of {total}")
        elif done == total:
            say(f"{name}: {done:,} gradients made; now the inverse, the longest part")

    return progress


def to_markdown(result: dict) -> str:
    """The two tables."""
    config = result["config"]
    seeds = list(result["seconds_by_seed"])
    lines = [
        f"### MLPNet on MNIST, one-shot, dense {result['dense_accuracy']} %: test accuracy (%)",
        "",
        "Published: Benbaki et al. 2023 (CHITA), table 1; the columns are Yu et al.'s (CBS, 2022).",
        "",
        "**MP**, global magnitude",
        "",
        "| sparsity | ours | published | difference |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['sparsity']:.2f} | {r['accuracy']:.2f} | {r['published']:.2f} | {r['difference']:+.2f} |"
        for r in result["magnitude"]
    ]
    heads = " | ".join(f"seed {seed}" for seed in seeds)
    lines += [
        "",
        f"**WF**, one network block, N = {config['num_samples']:,}, λ = {config['damping']:g}, independent update × "
        f"{config['update_scale']:g}, global threshold",
        "",
        f"| sparsity | {heads} | mean | published | difference | allowed | within |",
        "|---:" * (len(seeds) + 5) + "|:---:|",
    ]
    for r in result["woodfisher"]:
        found = " | ".join(f"{value:.2f}" for value in r["by_seed"].values())
        lines.append(
            f"| {r['sparsity']:.2f} | {found} | {r['mean']:.2f} | {r['published']:.2f} | {r['difference']:+.2f} "
            f"| ±{r['tolerance']:.1f} | {'yes' if r['within'] else 'NO'} |"
        )
    times = ", ".join(f"{value:.0f}" for value in result["seconds_by_seed"].values())
    lines += ["", f"Seconds a seed: {times} ({result['machine']['cpu']}, {result['machine']['threads']} threads)."]
    return "\n".join(lines)
