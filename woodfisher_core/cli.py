"""The command line: ``python -m woodfisher_core {prune,train,models,data}``."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from woodfisher_core import memory
from woodfisher_core.data import DATASETS, cache_folder, get_dataset
from woodfisher_core.errors import InputError, WoodFisherError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.config import SHIPPED
from woodfisher_core.experiments.report import to_json
from woodfisher_core.export import save_pruned
from woodfisher_core.methods import METHODS
from woodfisher_core.models import MODELS
from woodfisher_core.options import Choice, DampingScale, GradientPrecision, Labels, Scope, Solver, Update
from woodfisher_core.planning import Storage, parse_storage
from woodfisher_core.sampling import read_indices

GIB = 1 << 30


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status (0, or 2 after an error said in one line on standard error)."""
    memory_at_start = memory.resident_bytes()
    options = build_parser().parse_args(arguments)
    return exit_status(lambda: options.run(options, memory_at_start))


def exit_status(action: Callable[[], int]) -> int:
    """What ``action`` returns, or 2 after an error of this package said in one line on standard error."""
    try:
        return action()
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
    _add_prune(commands.add_parser("prune", help="prune a trained network once and report what happened"))
    _add_train(commands.add_parser("train", help="train a network of the zoo (this made the shipped weights)"))
    _add_models(commands.add_parser("models", help="list the networks and the methods"))
    _add_data(commands.add_parser("data", help="list or download data sets"))
    return parser


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.description = "Prunes a trained network once: statistic, mask, compensation, accuracy before and after."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "methods:\n" + "\n".join(f"  {m.name:16} {m.help}" for m in METHODS.values())
    what = parser.add_argument_group("network and data")
    what.add_argument("--model", default="mlpnet", metavar="NAME", help=f"one of {', '.join(MODELS)} (default: mlpnet)")
    what.add_argument("--dataset", metavar="NAME", help="data set (default: the one the network reads)")
    what.add_argument("--data-dir", metavar="DIR", help="folder of the data (default: $WOODFISHER_DATA or the cache)")
    what.add_argument(
        "--weights",
        metavar="FILE",
        default=SHIPPED,
        help="trained weights, .safetensors or a PyTorch checkpoint, of which tensors only are read (default: shipped)",
    )
    what.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="LAYER",
        help="leave a layer alone; name or pattern, repeatable",
    )
    how = parser.add_argument_group("method")
    how.add_argument(
        "--method", default="woodfisher", metavar="NAME", help=f"{', '.join(METHODS)} (default: woodfisher)"
    )
    how.add_argument(
        "--sparsity", type=float, default=0.95, metavar="S", help="fraction to remove, [0, 1) (default: 0.95)"
    )
    how.add_argument("--scope", default=Scope.GLOBAL, metavar="SCOPE", help=_choices(Scope, Scope.GLOBAL))
    how.add_argument(
        "--update", metavar="RULE", help=_choices(Update, None) + " (default: independent for woodfisher, else none)"
    )
    how.add_argument("--update-scale", type=float, default=1.0, metavar="X", help="factor on the independent update")
    fisher = parser.add_argument_group("Fisher")
    fisher.add_argument("--num-samples", type=int, default=1000, metavar="N", help="gradient rows (default: 1000)")
    fisher.add_argument("--mini-batch", type=int, default=1, metavar="M", help="samples averaged a row (default: 1)")
    fisher.add_argument("--labels", default=Labels.TRUE, metavar="WHOSE", help=_choices(Labels, Labels.TRUE))
    fisher.add_argument("--sample-indices", metavar="FILE", help="text file of training-set indices, one a line")
    fisher.add_argument("--damping", type=float, default=1e-3, metavar="LAMBDA", help="λ > 0 (default: 1e-3)")
    fisher.add_argument(
        "--damping-scale",
        default=DampingScale.ABSOLUTE,
        metavar="SCALE",
        help="what --damping is; " + _choices(DampingScale, DampingScale.ABSOLUTE),
    )
    fisher.add_argument(
        "--block-size",
        default="layer",
        metavar="B",
        help="a number, layer or network: slices of layers (default: layer)",
    )
    fisher.add_argument(
        "--gradient-precision",
        default=GradientPrecision.FULL,
        metavar="TYPE",
        help=_choices(GradientPrecision, GradientPrecision.FULL),
    )
    fisher.add_argument("--solver", default=Solver.AUTO, metavar="HOW", help=_choices(Solver, Solver.AUTO))
    run = parser.add_argument_group("run")
    run.add_argument("--held-out", type=int, default=1000, metavar="N", help="other samples to check the loss on")
    run.add_argument("--seed", type=int, default=0, metavar="K", help="fixes the order of the samples (default: 0)")
    run.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps (default: auto)")
    run.add_argument(
        "--memory-budget", type=float, metavar="GIB", help="GiB the run may take (default: 70 %% of the free)"
    )
    run.add_argument(
        "--storage", default="auto", metavar="WHERE", help=f"auto; {_choices(Storage, None)} (default: auto)"
    )
    run.add_argument("--scratch", metavar="DIR", help="folder for a scratch file (default: the system's)")
    run.add_argument("--output", metavar="DIR", help="write pruned.safetensors (weights and masks) and run.json there")
    run.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")
    parser.set_defaults(run=_prune)


def _choices(choice: type[Choice], default: Choice | None) -> str:
    text = "; ".join(f"{member.value}: {member.label}" for member in choice)
    return text + (f" (default: {default.value})" if default else "")


def _prune(options: argparse.Namespace, memory_at_start: int) -> int:
    indices = None if options.sample_indices is None else tuple(read_indices(options.sample_indices).tolist())
    config = PruneConfig(
        model=options.model,
        dataset=options.dataset,
        data_dir=options.data_dir,
        weights=options.weights,
        exclude=tuple(options.exclude),
        method=options.method,
        sparsity=options.sparsity,
        scope=options.scope,
        update=options.update,
        update_scale=options.update_scale,
        num_samples=options.num_samples,
        mini_batch=options.mini_batch,
        labels=options.labels,
        sample_indices=indices,
        damping=options.damping,
        damping_scale=options.damping_scale,
        block_size=options.block_size,
        solver=options.solver,
        gradient_precision=options.gradient_precision,
        held_out=options.held_out,
        seed=options.seed,
        device=options.device,
    )
    budget = options.memory_budget
    if budget is not None:
        if not (math.isfinite(budget) and budget > 0):
            raise InputError(f"memory budget: expected a positive number of GiB, got {budget}.")
        budget = int(budget * GIB)
    workspace = Workspace(
        memory_budget=budget,
        storage=parse_storage(options.storage),
        scratch=options.scratch,
        say=None if options.json else lambda text: print(f"plan: {text}", file=sys.stderr),
    )
    with tqdm(total=config.num_samples, desc="gradients", unit="row", leave=False, disable=None) as bar:
        report = workspace.report(config, lambda _phase, done, _total: bar.update(done - bar.n))
    result = to_json(report, memory_at_start)
    if options.output:
        problem = report.problem
        save_pruned(
            options.output,
            problem.model.state_dict(),
            problem.parameters,
            report.outcome.weights,
            report.outcome.mask.keep,
            result,
        )
    print(json.dumps(result) if options.json else _readable(result))
    return 0


def _readable(result: dict) -> str:
    config, seconds = result["config"], result["seconds"]
    lines = [
        f"{config['model']} on {config['dataset']}: {config['method']}, update {config['update']}, scope {config['scope']}",
        f"accuracy    {result['dense_accuracy']:.2f} % dense → {result['accuracy']:.2f} % "
        f"(± {result['accuracy_standard_error']:.2f} test-set noise)",
        f"sparsity    {result['sparsity']:.4f} ({result['kept']:,} of {result['num_prunable']:,} weights kept)",
    ]
    lines += [
        f"            {row['layer']:16} {row['kept']:>8,} of {row['total']:>8,} kept, sparsity {row['sparsity']:.4f}"
        for row in result["layers"]
    ]
    lines += [f"warning     nothing is left of {row['layer']}" for row in result["layers"] if row["kept"] == 0]
    if result["effective_damping"] is not None and config["damping_scale"] != DampingScale.ABSOLUTE:
        lines.append(f"damping     λ = {result['effective_damping']:.3e}, {config['damping']:g} × the mean curvature")
    change = result["loss_change"]
    held_out = (
        f"{_nats(change['held_out'])} on {result['num_held_out']:,} held-out samples, "
        if result["num_held_out"]
        else ""
    )
    measured = f"{held_out}{_nats(change['fisher_samples'])} on the Fisher's own samples"
    lines.append(f"loss change {measured} (nats, measured)")
    predicted = result["predicted_loss_change"]
    if predicted and predicted["held_out"]:
        terms = predicted["held_out"]
        lines.append(
            f"            {_nats(terms['total'])} predicted on held-out "
            f"(first order {_nats(terms['first_order'])}, second order {_nats(terms['second_order'])})"
        )
    lines.append("seconds     " + ", ".join(f"{phase} {value:.2f}" for phase, value in seconds.items()))
    lines.append(f"memory      {memory.gib(result['peak_memory_bytes'])} at the peak, over the start")
    return "\n".join(lines)


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.description = "Trains a network of the zoo by its recipe and writes its weights and model card."
    parser.add_argument("--model", required=True, metavar="NAME", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data (default: $WOODFISHER_DATA or the cache)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="initialisation and sample order (default: 0)")
    parser.add_argument("--epochs", type=int, metavar="E", help="passes over the data (default: the recipe's)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for NAME.safetensors and NAME.md")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace, memory_at_start: int) -> int:
    from woodfisher_core.experiments.zoo import train_and_save

    with tqdm(desc=options.model, unit="epoch", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        path, result = train_and_save(
            options.model, Path(options.output), options.data_dir, options.seed, options.epochs, progress
        )
    print(f"{path}: test accuracy {result.accuracy:.2f} %, loss {result.loss:.4f} nats")
    return 0


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.description = "Lists the networks that ship with their trained weights, and the pruning methods."
    parser.set_defaults(run=_models)


def _models(options: argparse.Namespace, memory_at_start: int) -> int:
    print("networks")
    for spec in MODELS.values():
        print(f"  {spec.name:16} {spec.description} Data: {spec.dataset}.")
    print("methods")
    for method in METHODS.values():
        print(f"  {method.name:16} {method.help} ({method.reference})")
    return 0


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.description = "Lists the data sets, or downloads one."
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="say which data sets are here")
    listing.add_argument("--data-dir", metavar="DIR", help="folder to look in")
    listing.set_defaults(run=_data_list)
    download = actions.add_parser("download", help="fetch a data set, with progress")
    download.add_argument("name", choices=[s.name for s in DATASETS.values() if s.download], help="the data set")
    download.add_argument("--data-dir", metavar="DIR", help=f"where to put it (default: {cache_folder()})")
    download.set_defaults(run=_data_download)


def _data_list(options: argparse.Namespace, memory_at_start: int) -> int:
    from woodfisher_core.data import find_root

    for spec in DATASETS.values():
        try:
            root = find_root(spec, options.data_dir)
            where = "ships with scikit-learn" if root is None else f"found in {root}"
        except WoodFisherError as error:
            where = str(error)
        print(f"{spec.name:10} {spec.description}\n{'':10} {where}")
    return 0


def _data_download(options: argparse.Namespace, memory_at_start: int) -> int:
    spec = get_dataset(options.name)
    root = Path(options.data_dir).expanduser() if options.data_dir else cache_folder()
    if spec.present(root):
        print(f"{spec.label} is already in {root}")
        return 0
    spec.download(root)  # torchvision shows its own progress bars
    print(f"{spec.label} is in {root}")
    return 0
