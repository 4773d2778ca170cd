"""What few images are worth: accuracy against the number of training images that exist."""

import argparse
from collections.abc import Callable

import pandas as pd

from woodfisher_core.benchmarks.flags import add_network, check_seeds, config_of
from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.comparison import Series, chosen, limited_data, summary
from woodfisher_core.methods import get_method
from woodfisher_core.options import Update

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
METHODS = ("magnitude", "woodfisher", "l-obs")
# Images that settings are chosen with: the middle of the range, once for all of it.
CHOICE_COUNT = 100
CACHE_BYTES = 6 << 30

Say = Callable[[str], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``limited-data``."""
    parser.description = (
        "Only k training images exist, for gradients, activations and BatchNorm alike: accuracy against k. Each method's setting "
        f"is chosen once, with {CHOICE_COUNT} images, by accuracy on other training images at a seed that is not reported."
    )
    parser.add_argument("--model", default="mlpnet", metavar="NAME", help="(default: mlpnet)")
    add_network(parser, 5)
    parser.add_argument("--sparsity", type=float, default=0.9, metavar="S", help="(default: 0.9)")
    parser.add_argument("--images", type=int, nargs="+", default=list(COUNTS), metavar="K", help="(default: 1 … 1,000)")
    parser.add_argument(
        "--batchnorm", action="store_true", help="re-estimate BatchNorm statistics on the k images, for every method"
    )


def run(options: argparse.Namespace, say: Say) -> dict[str, object]:
    """Every method at every number of images, as plain JSON values."""
    check_seeds(options)
    if min(options.images) < 1:
        raise InputError(f"images: expected numbers of at least 1, got {min(options.images)}.")
    space = Workspace(CACHE_BYTES)
    base = config_of(
        options,
        options.model,
        sparsity=options.sparsity,
        num_samples=CHOICE_COUNT,
        images=CHOICE_COUNT,
        batchnorm_images=CHOICE_COUNT if options.batchnorm else 0,
        held_out=0,
        solver="spectral",
    )
    series = []
    for name in METHODS:
        config, _ = chosen(space, base.replace(method=name, update=None), [options.sparsity], say)
        series.append(Series(name, config))
    counts = [count for count in options.images if count <= len(space.problem(base).dataset.train)]
    table = limited_data(space, series, options.sparsity, counts, range(options.seeds), say)
    return {
        "benchmark": "limited data",
        "machine": machine(options.device),
        "model": base.model,
        "dataset": base.dataset,
        "sparsity": options.sparsity,
        "batchnorm": options.batchnorm,
        "seeds": options.seeds,
        "dense_accuracy": space.problem(base).dense.accuracy,
        "settings": {one.label: one.config.to_dict() for one in series},
        "points": table.to_dict("records"),
        "summary": summary(table, "images").to_dict("records"),
    }


def to_markdown(result: dict) -> str:
    """Numbers of images down, methods across."""
    points = pd.DataFrame(result["summary"])
    names = list(dict.fromkeys(points["label"]))
    settings = {name: result["settings"][name] for name in names}
    heads = [get_method(name).label + _words(settings[name]) for name in names]
    lines = [
        f"**{result['model']}** on {result['dataset']} at {100 * result['sparsity']:g} %, dense "
        f"{result['dense_accuracy']:.2f} %, {result['seeds']} seeds: mean ± standard error of the test accuracy in percent"
        + (", BatchNorm re-estimated on the same images" if result["batchnorm"] else ""),
        "",
        "| images | " + " | ".join(heads) + " |",
        "|---:|" + "---:|" * len(names),
    ]
    for images, rows in points.groupby("images", sort=True):
        by_name = {row.label: f"{row.mean:.2f} ± {row.error:.2f}" for row in rows.itertuples()}
        lines.append(f"| {images:,} | " + " | ".join(by_name[name] for name in names) + " |")
    return "\n".join(lines)


def _words(config: dict) -> str:
    if config["update"] == Update.NONE.value:
        return ""
    return f" ({config['update']} update, λ {config['damping']:g} × mean curvature)"
