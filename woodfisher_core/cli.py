"""The command line: ``python -m woodfisher_core {prune,gradual,sweep,runs,jobs,train,models,data}``."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable

from woodfisher_core import memory
from woodfisher_core.commands.data import add_data
from woodfisher_core.commands.gradual import add_gradual
from woodfisher_core.commands.jobs import add_jobs
from woodfisher_core.commands.prune import add_prune
from woodfisher_core.commands.runs import add_runs
from woodfisher_core.commands.sweep import add_sweep
from woodfisher_core.commands.zoo import add_models, add_train
from woodfisher_core.errors import WoodFisherError

# What shells call a program that wrote to a pipe nobody reads.
READER_GONE = 141


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status (0, or 2 after an error said in one line on standard error)."""
    memory_at_start = memory.resident_bytes()
    options = build_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        return exit_status(lambda: options.run(options, memory_at_start))


def exit_status(action: Callable[[], int]) -> int:
    """What ``action`` returns, 2 after an error of this package said in one line on standard error, or ``READER_GONE``."""
    try:
        status = action()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Who reads has seen enough, as ``head`` has: no traceback, and none when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except WoodFisherError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
    return 2


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, its texts taken from the registries and the options' own explanations."""
    parser = argparse.ArgumentParser(
        prog="python -m woodfisher_core",
        description="Second-order pruning: WoodFisher and its baselines, exact and fast.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_prune(commands.add_parser("prune", help="prune a trained network and report what happened"))
    add_gradual(commands.add_parser("gradual", help="prune step by step while training goes on"))
    add_sweep(commands.add_parser("sweep", help="prune at many settings, a grid or a random sample"))
    add_runs(commands.add_parser("runs", help="list, compare, export and import the runs that were kept"))
    add_jobs(commands.add_parser("jobs", help="list, stop and run long work that waits in the store"))
    add_train(commands.add_parser("train", help="train a network of the zoo (this made the shipped weights)"))
    add_models(commands.add_parser("models", help="list the networks and the methods"))
    add_data(commands.add_parser("data", help="list or download data sets"))
    return parser
