"""Gradual pruning with fine-tuning: WoodFisher against global magnitude, the same schedule, budget and seeds for both."""

import argparse
import math
from collections.abc import Callable
from statistics import mean, stdev

from woodfisher_core.benchmarks.flags import add_network, check_seeds, config_of
from woodfisher_core.environment import machine
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.schedules import GradualSchedule

SPARSITIES = (0.9, 0.95, 0.98)
METHODS = ("woodfisher", "magnitude")

Say = Callable[[str], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``gradual``."""
    parser.description = (
        "Prunes gradually with WoodFisher and with global magnitude: the same schedule, training and seeds. Best and last test "
        "accuracy, and the accuracy straight after each pruning step (mean ± standard error over the seeds)."
    )
    parser.add_argument("--model", default="mlpnet", metavar="NAME", help="(default: mlpnet)")
    add_network(parser, 3)
    parser.add_argument(
        "--sparsities", type=float, nargs="+", default=list(SPARSITIES), metavar="S", help="(default: 0.9 0.95 0.98)"
    )
    parser.add_argument("--epochs", type=int, default=10, metavar="E", help="(default: 10)")
    parser.add_argument("--end", type=int, default=6, metavar="E", help="last epoch that prunes (default: 6)")
    parser.add_argument("--num-samples", type=int, default=400, metavar="N", help="gradient rows a step (default: 400)")
    parser.add_argument("--mini-batch", type=int, default=1, metavar="M", help="samples a row (default: 1)")
    parser.add_argument("--damping", type=float, default=1e-3, metavar="LAMBDA", help="(default: 1e-3)")
    parser.add_argument("--block-size", default="layer", metavar="B", help="(default: layer)")
    parser.add_argument("--update", default="joint", metavar="RULE", help="WoodFisher's (default: joint)")
    parser.add_argument("--learning-rate", type=float, default=0.01, metavar="R", help="(default: 0.01)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="(default: 64)")
    parser.add_argument("--augment", action="store_true", help="shift and mirror the images")
    parser.add_argument("--precision", default="float32", metavar="TYPE", help="float32 or bfloat16 (default: float32)")
    parser.add_argument(
        "--snapshots", metavar="DIR", help="a snapshot of each run; what was stopped goes on from there"
    )


def run(options: argparse.Namespace, say: Say) -> dict[str, object]:
    """Every run, as plain JSON values."""
    check_seeds(options)
    runs = []
    for sparsity in options.sparsities:
        for method in METHODS:
            for seed in range(options.seeds):
                config = _config(options, method, sparsity, seed)
                config, result = run_gradual(config, folder=options.snapshots)
                runs.append(
                    {
                        "method": method,
                        "sparsity": sparsity,
                        "seed": seed,
                        "dense": result.dense.accuracy,
                        "best": result.best.after.accuracy,
                        "last": result.last.after.accuracy,
                        "steps": [
                            {
                                "epoch": r.epoch,
                                "sparsity": r.sparsity,
                                "before": r.before.accuracy,
                                "after": r.pruned.accuracy,
                            }
                            for r in result.records
                            if r.pruned is not None
                        ],
                        "config": config.to_dict(),
                    }
                )
                after, last = _after(runs[-1]), _last(runs[-1])
                say(f"{method} {sparsity:g} seed {seed}: after the last step {after:.2f}, last {last:.2f}")
    return {
        "benchmark": "gradual",
        "machine": machine(options.device),
        "model": options.model,
        "dataset": _config(options, METHODS[0], options.sparsities[0], 0).prune.dataset,
        "epochs": options.epochs,
        "end": options.end,
        "runs": runs,
    }


def _config(options: argparse.Namespace, method: str, sparsity: float, seed: int) -> GradualConfig:
    own = {"update": options.update} if method == "woodfisher" else {}
    return GradualConfig(
        prune=config_of(
            options,
            options.model,
            method=method,
            num_samples=options.num_samples,
            mini_batch=options.mini_batch,
            damping=options.damping,
            block_size=options.block_size,
            seed=seed,
            sparsity=sparsity,
            **own,
        ),
        schedule=GradualSchedule(initial=0.05, final=sparsity, start_epoch=1, end_epoch=options.end),
        epochs=options.epochs,
        tuning=FineTuning(learning_rate=options.learning_rate, batch_size=options.batch_size, augment=options.augment),
    )


def to_markdown(result: dict) -> str:
    """The two methods beside one another, and after each pruning step."""
    runs = result["runs"]
    seeds = len({one["seed"] for one in runs})
    dense = runs[0]["dense"]
    lines = [
        f"**{result['model']}** on {result['dataset']}, dense {dense:.2f} %, {result['epochs']} epochs, pruned in 1 to "
        f"{result['end']}, {seeds} seeds: test accuracy in percent, mean ± standard error",
        "",
        "| sparsity | method | best | last | straight after the last step | after each step |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for sparsity in dict.fromkeys(one["sparsity"] for one in runs):
        for method in METHODS:
            own = [one for one in runs if (one["sparsity"], one["method"]) == (sparsity, method)]
            steps = zip(*(one["steps"] for one in own), strict=True)
            each = ", ".join(f"{mean(s['after'] for s in some):.1f} ({some[0]['sparsity']:.3f})" for some in steps)
            cells = [_cell([pick(one) for one in own]) for pick in (_best, _last, _after)]
            lines.append(f"| {sparsity:g} | {method} | " + " | ".join(cells) + f" | {each} |")
    return "\n".join(lines)


def _best(one: dict) -> float:
    return one["best"]


def _last(one: dict) -> float:
    return one["last"]


def _after(one: dict) -> float:
    return one["steps"][-1]["after"]


def _cell(values: list[float]) -> str:
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{mean(values):.2f} ± {error:.2f}"
