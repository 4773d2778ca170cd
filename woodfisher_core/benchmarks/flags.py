"""Flags of the benchmarks that run on one registered network, and the config they make."""

import argparse

from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.config import SHIPPED


def add_network(parser: argparse.ArgumentParser, seeds: int | None) -> None:
    """Which data and weights, and how many seeds (None: no such flag); ``--model`` is the benchmark's own."""
    parser.add_argument("--dataset", metavar="NAME", help="data set (default: the network's first)")
    parser.add_argument("--weights", default=SHIPPED, metavar="FILE", help="weights (default: the ones that ship)")
    parser.add_argument(
        "--repair-batchnorm",
        type=int,
        default=0,
        metavar="K",
        help="re-estimate BatchNorm on K images first (default: 0)",
    )
    parser.add_argument(
        "--test-images", type=int, metavar="K", help="evaluate on K test images, always the same (default: all)"
    )
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds, metavar="K", help=f"seeds 0 … K−1 (default: {seeds})")


def config_of(options: argparse.Namespace, model: str, **changes) -> PruneConfig:
    """A config on ``model`` with these flags."""
    return PruneConfig(
        model=model,
        dataset=options.dataset,
        data_dir=options.data_dir,
        weights=options.weights,
        repair_batchnorm=options.repair_batchnorm,
        test_images=options.test_images,
        device=options.device,
        **changes,
    )


def check_seeds(options: argparse.Namespace) -> None:
    """Raises an InputError unless there is at least one seed."""
    if options.seeds < 1:
        raise InputError(f"seeds: expected at least 1, got {options.seeds}.")
