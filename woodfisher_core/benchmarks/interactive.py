"""What a change on the pages costs the engine: statistic, per-layer views, updates and accuracy, once gradients are there."""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from woodfisher_core import memory
from woodfisher_core.benchmarks.flags import add_network, config_of
from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace, tables
from woodfisher_core.options import DampingScale, Solver, Update
from woodfisher_core.timing import wait

# Dampings are multiples of the mean curvature: the same setting on every network.
DAMPINGS, SPARSITIES = (0.1, 1.0, 10.0), (0.6, 0.7, 0.8, 0.9)
IMAGES = 1000
# What a page of the largest network in the zoo is meant to keep to, in seconds (medians).
AIMS = {"statistic, mask and per-layer views": 0.3, "independent update": 1.0, "joint update": 1.0}

Say = Callable[[str], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``interactive``."""
    parser.description = (
        "Goes through dampings and sparsities as a person at the sliders does, in one workspace, and times what each change "
        "costs before anything is drawn. The first setting, which makes the gradients and their spectra, is told apart."
    )
    parser.add_argument("--model", default="resnet20", metavar="NAME", help="(default: resnet20)")
    add_network(parser, None)
    parser.add_argument("--num-samples", type=int, default=1000, metavar="N", help="gradient rows (default: 1000)")
    parser.add_argument(
        "--dampings", type=float, nargs="+", default=list(DAMPINGS), metavar="X", help="multiples of the mean curvature"
    )
    parser.add_argument("--sparsities", type=float, nargs="+", default=list(SPARSITIES), metavar="S")


def run(options: argparse.Namespace, say: Say) -> dict[str, object]:
    """Seconds by kind of change, each one of its own; as plain JSON values."""
    if not options.dampings or not options.sparsities:
        raise InputError("interactive: expected at least one damping and one sparsity.")
    base = config_of(
        options,
        options.model,
        num_samples=options.num_samples,
        damping_scale=DampingScale.RELATIVE,
        update=Update.NONE,
        solver=Solver.SPECTRAL,
    )
    space = Workspace(cache_bytes=memory.cache_bytes())  # as the app's
    say("gradients and spectra")
    prunable = space.problem(base).parameters.num_prunable
    device = space.problem(base).device
    first = _seconds(partial(space.outcome, base.replace(damping=2.0 * max(options.dampings), sparsity=0.5)), device)
    seconds: dict[str, list[float]] = {}
    for damping in options.dampings:
        for number, sparsity in enumerate(options.sparsities):
            say(f"damping {damping:g} × mean curvature, sparsity {sparsity:g}")
            config = base.replace(damping=damping, sparsity=sparsity)
            kind = (
                "statistic, mask and per-layer views" if number == 0 else "another sparsity: mask and per-layer views"
            )
            steps = {kind: partial(_views, space, config)}
            for update in (Update.INDEPENDENT, Update.JOINT):
                steps[f"{update.value} update"] = partial(space.outcome, config.replace(update=update))
            steps[f"accuracy on {IMAGES:,} test images"] = partial(_accuracy, space, config)
            for name, step in steps.items():
                seconds.setdefault(name, []).append(_seconds(step, device))
    return {
        "benchmark": "interactive",
        "machine": machine(options.device),
        "model": options.model,
        "prunable": prunable,
        "num_samples": options.num_samples,
        "threads": torch.get_num_threads(),
        "first_seconds": first,
        "seconds": seconds,
    }


def _views(space: Workspace, config: PruneConfig) -> None:
    """What Explore draws per layer."""
    outcome, parameters = space.outcome(config), space.problem(config).parameters
    tables.layer_table(parameters, outcome.mask.keep)
    tables.saliency_table(parameters, outcome.saliency, outcome.mask.keep)
    tables.thresholds_by_layer(parameters, outcome.mask)


def _accuracy(space: Workspace, config: PruneConfig) -> None:
    """On at most ``IMAGES`` images."""
    space.evaluation(config, min(IMAGES, len(space.problem(config).test)))


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - start


def to_markdown(result: dict) -> str:
    """A row a kind of change."""
    lines = [
        f"**{result['model']}** ({result['prunable']:,} weights), N = {result['num_samples']:,}, {result['threads']} threads; "
        f"the first setting took {result['first_seconds']:.1f} s",
        "",
        "| change | median | worst | aim |",
        "|---|---:|---:|---:|",
    ]
    for name, seconds in result["seconds"].items():
        aim = f"{AIMS[name]:g} s" if name in AIMS else ""
        lines.append(f"| {name} | {median(seconds):.2f} s | {max(seconds):.2f} s | {aim} |")
    return "\n".join(lines)
