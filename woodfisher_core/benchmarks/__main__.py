"""``python -m woodfisher_core.benchmarks [NAME]``: a Markdown table on standard output, JSON on request."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from woodfisher_core.benchmarks import (
    finetuned,
    interactive,
    limited,
    methods,
    published,
    runs,
    scale,
    speed,
    sweeps,
    table,
)
from woodfisher_core.benchmarks.cases import CASES
from woodfisher_core.cli import exit_status
from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import SHIPPED
from woodfisher_core.options import GradientPrecision

GIB = 1 << 30


def main(arguments: list[str] | None = None) -> int:
    """Runs one benchmark, ``speed`` where none is named; returns the exit status (0, or 2 after an error said in one line
    on standard error)."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given = ["speed", *given]
    options = build_parser().parse_args(given)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.threads is not None:
        if options.threads < 1:
            raise InputError(f"threads: expected at least 1, got {options.threads}.")
        torch.set_num_threads(options.threads)
    result, text = options.run(options)
    print(text, flush=True)
    if options.json:
        _write(options.json, result)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m woodfisher_core.benchmarks",
        description="Benchmarks: how fast this is beside each baseline, how close to the published tables, how the methods "
        "compare, how large a network fits, and how quick the run store is. Without a name: speed.",
    )
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")
    _add_speed(commands.add_parser("speed", help="time ours against each baseline, interleaved (some minutes)"))
    _add_published(commands.add_parser("published", help="the published MLPNet table (1 to 3 minutes a seed, 5 GB)"))
    for name, module, what in (
        ("methods", methods, "every method over sparsities and seeds (minutes to an hour)"),
        ("limited-data", limited, "accuracy against the number of training images (minutes)"),
        ("sweeps", sweeps, "points a second of a sweep against each point from nothing (a minute)"),
        ("interactive", interactive, "what a change on the pages costs the engine (a minute)"),
        ("gradual", finetuned, "gradual pruning with fine-tuning, WoodFisher against magnitude (long)"),
    ):
        own = commands.add_parser(name, help=what)
        module.add_flags(own)
        _add_common(own, "auto")
        own.set_defaults(run=partial(_described, module))
    _add_scale(commands.add_parser("scale", help="prune an ImageNet network within a memory budget (many minutes)"))
    own = commands.add_parser("runs", help="save, list, filter and open 10,000 runs (half a minute)")
    runs.add_flags(own)
    own.set_defaults(run=partial(_described, runs))
    return parser


def _described(module: ModuleType, options: argparse.Namespace) -> tuple[dict, str]:
    result = module.run(options, _say)
    return result, module.to_markdown(result)


def _add_speed(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Times ours and each baseline in turns (A B A B …), one process, same threads, after one unmeasured round;\n"
        "prints medians and ratios beside the machine's own matrix-product rate."
    )
    parser.epilog = "cases:\n" + "\n".join(
        f"  {name:20} {case.__doc__.splitlines()[0]}" for name, case in CASES.items()
    )
    parser.add_argument("--case", action="append", metavar="NAME", help="run only this case; repeatable (default: all)")
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="measured rounds (default: 5)")
    _add_common(parser, "cpu")
    parser.add_argument(
        "--weights", default=SHIPPED, metavar="FILE", help="MLPNet weights (default: the ones that ship)"
    )
    parser.add_argument(
        "--resnet20-weights", metavar="FILE", help="a checkpoint of ResNet-20 (default: fresh Kaiming weights)"
    )
    parser.add_argument(
        "--resnet20-images",
        metavar="DIR",
        help="real images for it, one folder a class, such as CIFAR-10's (default: synthetic)",
    )
    parser.set_defaults(run=_speed)


def _add_published(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Computes the MP (global magnitude) and WF (WoodFisher) columns of the published one-shot MLPNet table with the "
        "published settings, and says how far from the published numbers they are. About 5 GB of memory."
    )
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help="the WoodFisher authors' mnist_25_epoch_93.97.ckpt"
    )
    parser.add_argument(
        "--num-samples",
        type=int,
        default=published.NUM_SAMPLES,
        metavar="N",
        help=f"gradients of the WF column; fewer is quicker but another setting (default: {published.NUM_SAMPLES})",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=list(published.SEEDS),
        metavar="K",
        help="sample orders, one whole run each (default: 0 1 2)",
    )
    parser.add_argument(
        "--memory-budget", type=float, metavar="GIB", help="GiB a seed may take (default: 70 %% of the free)"
    )
    _add_common(parser, "auto")
    parser.set_defaults(run=_published)


def _add_scale(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prunes a network of ImageNet size once on seeded synthetic images, within a memory budget: minutes by phase, and "
        "predicted beside measured memory and disk."
    )
    known = ", ".join(scale.NETWORKS)
    parser.add_argument("--model", required=True, metavar="NAME", help=f"one of {known}, with fresh weights")
    parser.add_argument("--num-samples", type=int, default=400, metavar="N", help="gradient rows (default: 400)")
    parser.add_argument(
        "--block-size", default="2000", metavar="B", help="a number, layer or network: slices of layers (default: 2000)"
    )
    parser.add_argument(
        "--memory-budget", type=float, metavar="GIB", help="GiB the run may take (default: 70 %% of the free)"
    )
    parser.add_argument("--storage", metavar="WHERE", help="memory, spilled or recomputed (default: fastest that fits)")
    parser.add_argument("--scratch", metavar="DIR", help="folder of the scratch file (default: the system's)")
    parser.add_argument(
        "--gradient-precision",
        default=GradientPrecision.FULL,
        metavar="HOW",
        help="full or bfloat16, which halves memory and disk (default: full)",
    )
    parser.add_argument("--update", default="none", metavar="RULE", help="none, independent or joint (default: none)")
    parser.add_argument("--sparsity", type=float, default=0.8, metavar="S", help="fraction to remove (default: 0.8)")
    parser.add_argument("--damping", type=float, default=1e-3, metavar="LAMBDA", help="λ > 0 (default: 1e-3)")
    parser.add_argument("--image-size", type=int, default=224, metavar="PIXELS", help="(default: 224)")
    _add_machine(parser, "auto")
    parser.set_defaults(run=_scale)


def _add_common(parser: argparse.ArgumentParser, device: str) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="folder of MNIST (default: $WOODFISHER_DATA or the cache)")
    _add_machine(parser, device)


def _add_machine(parser: argparse.ArgumentParser, device: str) -> None:
    parser.add_argument("--device", default=device, metavar="DEVICE", help=f"auto, cpu or cuda (default: {device})")
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads (default: as torch chooses)")
    parser.add_argument("--json", metavar="FILE", help="also write everything, each single measurement, to this file")


def _speed(options: argparse.Namespace) -> tuple[dict, str]:
    result = speed.run(
        options.case,
        options.repeats,
        options.weights,
        options.data_dir,
        options.device,
        _say,
        options.resnet20_weights,
        options.resnet20_images,
    )
    return result, table.to_markdown(result)


def _published(options: argparse.Namespace) -> tuple[dict, str]:
    result = published.run(
        options.weights,
        options.data_dir,
        options.num_samples,
        options.seeds,
        options.device,
        _budget(options),
        _say,
    )
    return result, published.to_markdown(result)


def _scale(options: argparse.Namespace) -> tuple[dict, str]:
    result = scale.run(
        options.model,
        num_samples=options.num_samples,
        image_size=options.image_size,
        memory_budget=_budget(options),
        storage=options.storage,
        scratch=options.scratch,
        device=options.device,
        say=_say,
        block_size=options.block_size,
        update=options.update,
        sparsity=options.sparsity,
        damping=options.damping,
        gradient_precision=options.gradient_precision,
    )
    return result, scale.to_markdown(result)


def _budget(options: argparse.Namespace) -> int | None:
    return None if options.memory_budget is None else int(options.memory_budget * GIB)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(path: str, result: dict) -> None:
    try:
        Path(path).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--json: cannot write {path} ({error.strerror}). Choose another file.") from None


if __name__ == "__main__":
    sys.exit(main())
