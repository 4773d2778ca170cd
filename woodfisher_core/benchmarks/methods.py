"""Every method on the same networks: accuracy over sparsities and seconds, each in settings chosen on images kept for that."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from woodfisher_core.benchmarks import published
from woodfisher_core.benchmarks.flags import add_network, check_seeds, config_of
from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.comparison import DAMPINGS, Series, chosen, curves, summary, usable_methods
from woodfisher_core.experiments.config import SHIPPED
from woodfisher_core.masks import check_sparsity
from woodfisher_core.methods import METHODS, get_method
from woodfisher_core.models import MODELS
from woodfisher_core.options import Update

SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
RESNET_SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DEFAULT_MODELS = ("mlpnet", "digits-mlp", "digits-cnn")
# Samples by network: all that leaves enough of the small training sets to choose settings on.
NUM_SAMPLES = {"digits-mlp": 500, "digits-cnn": 500, "mlpnet": 1000, "resnet20": 500}
CACHE_BYTES = 6 << 30

Say = Callable[[str], None]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``methods``."""
    parser.description = (
        "Prunes each network with every method over sparsities and seeds. Updates, damping and blocks of each method are "
        "chosen by accuracy on training images that no Fisher sample comes from, at a seed that is not reported; the test set "
        "is only looked at then. Prints mean ± standard error over the seeds and the median seconds of a network."
    )
    known = ", ".join(MODELS)
    parser.add_argument(
        "--model", action="append", metavar="NAME", help=f"{known}; repeatable (default: {' '.join(DEFAULT_MODELS)})"
    )
    add_network(parser, 5)
    parser.add_argument("--method", action="append", metavar="NAME", help="only this one; repeatable (default: all)")
    parser.add_argument(
        "--sparsities", type=float, nargs="+", metavar="S", help="(default: 0.5 … 0.98; resnet20 0.3 … 0.9)"
    )
    parser.add_argument(
        "--dampings",
        type=float,
        nargs="+",
        default=DAMPINGS,
        metavar="R",
        help="multiples of the mean curvature to choose from (default: 0.01 … 1,000)",
    )
    parser.add_argument("--num-samples", type=int, metavar="N", help="(default: 500 to 1,000, by network)")
    parser.add_argument("--plot", metavar="DIR", help="write methods-<network>.html, the same curves to look at, there")


def run(options: argparse.Namespace, say: Say) -> dict[str, object]:
    """All networks, as plain JSON values."""
    names = options.model or list(DEFAULT_MODELS)
    if len(names) > 1 and (options.weights != SHIPPED or options.dataset):
        raise InputError("--weights and --dataset: expected one --model beside them, got several.")
    check_seeds(options)
    for name in options.method or ():
        get_method(name)
    networks = []
    for name in names:
        sparsities = options.sparsities or (RESNET_SPARSITIES if name == "resnet20" else SPARSITIES)
        for sparsity in sparsities:
            check_sparsity(sparsity)
        base = config_of(
            options,
            name,
            num_samples=options.num_samples or NUM_SAMPLES.get(name, 500),
            held_out=0,
            solver="spectral",
        )
        networks.append(_network(base, sparsities, range(options.seeds), options, say))
    result = {"benchmark": "methods", "machine": machine(options.device), "networks": networks}
    if options.plot:
        plot(result, Path(options.plot))
    return result


def _network(
    base: PruneConfig, sparsities: Sequence[float], seeds: Sequence[int], options: argparse.Namespace, say: Say
) -> dict[str, object]:
    space = Workspace(CACHE_BYTES)
    problem = space.problem(base)
    usable = usable_methods(problem.parameters.num_prunable)
    left_out = [name for name in METHODS if name not in usable]
    tables, settings = [], {}
    for name in usable:
        if options.method and name not in options.method:
            continue
        label = get_method(name).label
        own, told = base.replace(method=name, update=None), lambda text: say(f"{base.model}, {text}")
        config, score = chosen(space, own, sparsities, told, options.dampings)
        settings[name] = {"setting": _setting(config), "choice_accuracy": score, "config": config.to_dict()}
        table = curves(space, [Series(name, config)], sparsities, seeds, timed=True)
        tables.append(table)
        means = summary(table)["mean"].round(2).tolist()
        say(f"{base.model}, {label} ({_setting(config)}): {means}")
    found = pd.concat(tables, ignore_index=True)
    return {
        "model": base.model,
        "dataset": base.dataset,
        "weights_hash": problem.weights_hash,
        "dense_accuracy": problem.dense.accuracy,
        "test_images": len(problem.test),
        "num_samples": base.num_samples,
        "seeds": list(seeds),
        "settings": settings,
        "left_out": left_out,
        "points": found.to_dict("records"),
        "summary": summary(found).to_dict("records"),
    }


def _setting(config: PruneConfig) -> str:
    """What was chosen, in few words."""
    method = get_method(config.method)
    free = method.default_update is not Update.NONE and len(method.updates) > 1
    parts = [f"update {config.update}"] if free else []
    if config.uses_damping:
        parts.append(f"λ {config.damping:g} × mean curvature")
        if config.uses_gradients:
            parts.append(f"blocks {config.block_size}")
    return ", ".join(parts) or "–"


def to_markdown(result: dict) -> str:
    """One table a network, methods down and sparsities across, the published columns beside where they belong."""
    return "\n\n".join(_table(network) for network in result["networks"])


def _table(network: dict) -> str:
    points = pd.DataFrame(network["summary"])
    sparsities = list(dict.fromkeys(points["sparsity"]))
    lines = [
        f"**{network['model']}** on {network['dataset']}, dense {network['dense_accuracy']:.2f} %, "
        f"N = {network['num_samples']:,}, {len(network['seeds'])} seeds: mean ± standard error of the accuracy in percent on "
        f"{network['test_images']:,} test images",
        "",
        "| method | " + " | ".join(f"{s:g}" for s in sparsities) + " | s a network | chosen |",
        "|---|" + "---:|" * (len(sparsities) + 1) + "---|",
    ]
    for name, rows in points.groupby("label", sort=False):
        cells = [f"{row.mean:.2f} ± {row.error:.2f}" for row in rows.itertuples()]
        seconds = rows["seconds"].median()
        chosen_setting = network["settings"][name]["setting"]
        lines.append(f"| {get_method(name).label} | " + " | ".join(cells) + f" | {seconds:.2f} | {chosen_setting} |")
    if network["model"] == "mlpnet" and abs(network["dense_accuracy"] - published.DENSE) < 0.005:
        columns = (("published MP", published.MAGNITUDE), ("published WF", published.WOODFISHER))
        for name, column in columns:
            known = dict(zip(published.SPARSITIES, column, strict=True))
            lines.append(
                f"| *{name}* | " + " | ".join(f"{known[s]:.2f}" if s in known else "" for s in sparsities) + " | | |"
            )
    if network["left_out"]:
        lines += ["", f"Left out, the network is too large for it: {', '.join(network['left_out'])}."]
    return "\n".join(lines)


def plot(result: dict, folder: Path) -> list[Path]:
    """One stand-alone HTML page a network: accuracy against sparsity with bands of one standard error."""
    from app.charts import accuracy_curve

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for network in result["networks"]:
            points = pd.DataFrame(network["summary"])
            table = points.rename(columns={"mean": "accuracy", "error": "standard_error", "label": "method"})
            table["label"] = [get_method(name).label for name in table["method"]]
            figure = accuracy_curve(table, network["dense_accuracy"], None)
            path = folder / f"methods-{network['model']}.html"
            figure.write_html(path, include_plotlyjs=True)
            written.append(path)
    except OSError as error:
        raise InputError(f"--plot: cannot write to {folder} ({error}). Choose another folder.") from None
    return written
