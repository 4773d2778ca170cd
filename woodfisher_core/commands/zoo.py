"""``train`` and ``models``: the networks that ship, and how their weights were made."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from woodfisher_core.methods import METHODS
from woodfisher_core.models import MODELS


def add_train(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = "Trains a network of the zoo by its recipe and writes its weights and model card."
    parser.add_argument("--model", required=True, metavar="NAME", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--dataset", metavar="NAME", help="data set (default: the first that the network reads)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data (default: $WOODFISHER_DATA or the cache)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="initialisation and sample order (default: 0)")
    parser.add_argument("--epochs", type=int, metavar="E", help="passes over the data (default: the recipe's)")
    parser.add_argument(
        "--snapshot", metavar="FILE", help="written after each epoch; a stopped training goes on from it"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for NAME.safetensors and NAME.md")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace, memory_at_start: int) -> int:
    from woodfisher_core.experiments.zoo import train_and_save

    with tqdm(desc=options.model, unit="epoch", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        path, result = train_and_save(
            options.model,
            Path(options.output),
            options.data_dir,
            options.seed,
            options.epochs,
            progress,
            dataset=options.dataset,
            report=lambda epoch, loss: bar.write(f"epoch {epoch}: training loss {loss:.4f} nats", file=sys.stderr),
            snapshot=Path(options.snapshot) if options.snapshot else None,
        )
    print(f"{path}: test accuracy {result.accuracy:.2f} %, loss {result.loss:.4f} nats")
    return 0


def add_models(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = "Lists the networks that ship with their trained weights, and the pruning methods."
    parser.set_defaults(run=_models)


def _models(options: argparse.Namespace, memory_at_start: int) -> int:
    print("networks")
    for spec in MODELS.values():
        print(f"  {spec.name:16} {spec.description} Data: {' or '.join(spec.datasets)}.")
    print("methods")
    for method in METHODS.values():
        print(f"  {method.name:16} {method.help} ({method.reference})")
    return 0
