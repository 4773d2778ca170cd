"""``prune``: one run from the command line, readable or as JSON."""

import argparse
import json
import sys
import time

from torch import nn
from tqdm import tqdm

from woodfisher_core import memory
from woodfisher_core.commands.flags import (
    add_keep,
    add_method,
    add_network,
    choices,
    memory_budget,
    method_options,
    network_options,
)
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import CONFIDENT
from woodfisher_core.experiments import PruneConfig, RunReport, Workspace
from woodfisher_core.experiments.materials import Progress
from woodfisher_core.experiments.remember import failed_record, is_expected, record_of
from woodfisher_core.experiments.report import smaller_network, to_json
from woodfisher_core.export import HOW_TO_INSTALL, onnx_bytes, onnx_missing, save_pruned
from woodfisher_core.methods import METHODS
from woodfisher_core.options import DampingScale
from woodfisher_core.planning import Storage, parse_storage
from woodfisher_core.sampling import read_indices
from woodfisher_core.store import Store

ORIGIN = "prune"


def add_prune(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = "Prunes a trained network once: statistic, mask, compensation, accuracy before and after."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "methods:\n" + "\n".join(f"  {m.name:16} {m.help}" for m in METHODS.values())
    add_network(parser)
    add_method(parser)
    run = parser.add_argument_group("run")
    run.add_argument("--held-out", type=int, default=1000, metavar="N", help="other samples to check the loss on")
    run.add_argument("--seed", type=int, default=0, metavar="K", help="fixes the order of the samples (default: 0)")
    run.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps (default: auto)")
    run.add_argument(
        "--memory-budget", type=float, metavar="GIB", help="GiB the run may take (default: 70 %% of the free)"
    )
    run.add_argument(
        "--storage", default="auto", metavar="WHERE", help=f"auto; {choices(Storage, None)} (default: auto)"
    )
    run.add_argument("--scratch", metavar="DIR", help="folder for a scratch file (default: the system's)")
    run.add_argument(
        "--output",
        metavar="DIR",
        help="write pruned.safetensors (weights and masks) and run.json there; smaller.safetensors too where channels went",
    )
    run.add_argument("--onnx", action="store_true", help="with --output, pruned.onnx too (needs the extra export)")
    add_keep(run)
    run.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")
    parser.set_defaults(run=_prune)


def _prune(options: argparse.Namespace, memory_at_start: int) -> int:
    if options.onnx:
        _check_onnx(options.output)  # before the work
    indices = None if options.sample_indices is None else tuple(read_indices(options.sample_indices).tolist())
    config = PruneConfig(
        sample_indices=indices,
        held_out=options.held_out,
        **network_options(options),
        **method_options(options),
    )
    workspace = Workspace(
        memory_budget=memory_budget(options.memory_budget),
        storage=parse_storage(options.storage),
        scratch=options.scratch,
        say=None if options.json else lambda text: print(f"plan: {text}", file=sys.stderr),
    )
    # A store that cannot be used is found out before the work.
    store = None if options.store is None else Store(options.store)
    with tqdm(total=config.num_samples, desc="gradients", unit="row", leave=False, disable=None) as bar:
        report = _reported(
            workspace,
            config,
            store,
            lambda phase, done, _: bar.update(done - bar.n) if phase == "gradients" else None,
        )
    smaller = smaller_network(report)
    result = to_json(report, memory_at_start, smaller)
    if options.output:
        problem = report.problem
        save_pruned(
            options.output,
            problem.model.state_dict(),
            problem.parameters,
            report.outcome.weights,
            report.outcome.mask.keep,
            result,
            report.outcome.tensors,
            None if smaller is None else smaller.state_dict(),
            _onnx(report, smaller) if options.onnx else None,
        )
    print(json.dumps(result) if options.json else _readable(result))
    return 0


def _check_onnx(output: str | None) -> None:
    if output is None:
        raise InputError("ONNX: expected a folder to write pruned.onnx into, got none. Give --output DIR.")
    if missing := onnx_missing():
        raise InputError(f"ONNX: {' and '.join(missing)} not installed. In the project's folder: {HOW_TO_INSTALL}")


def _onnx(report: RunReport, smaller: nn.Module | None) -> bytes:
    """The smaller network where channels went, the one with zeros otherwise."""
    problem, outcome = report.problem, report.outcome
    network = smaller or problem.placed(outcome.weights, outcome.tensors)
    return onnx_bytes(network, problem.test.inputs)


def _reported(workspace: Workspace, config: PruneConfig, store: Store | None, progress: Progress) -> RunReport:
    """The report, kept in the ``store``; what is printed says more than a run keeps, so it is made even where that is known."""
    if store is None:
        return workspace.report(config, progress)
    config, started = workspace.resolve(config), time.perf_counter()
    known = store.find(config.key)
    try:
        report = workspace.report(config, progress)
    except Exception as error:
        if is_expected(error):
            store.save(failed_record(config, error, seconds=time.perf_counter() - started, origin=ORIGIN))
        raise
    number = store.save(record_of(report, origin=ORIGIN))
    print(f"kept as run {number}" if known is None else f"run {number} is in the store already", file=sys.stderr)
    return report


def _readable(result: dict) -> str:
    config, seconds = result["config"], result["seconds"]
    lines = [
        f"{config['model']} on {config['dataset']}: {config['method']}, update {config['update']}, scope {config['scope']}",
        f"accuracy    {result['dense_accuracy']:.2f} % dense → {result['accuracy']:.2f} % "
        f"(noise of the test images ± {CONFIDENT * result['accuracy_standard_error']:.2f})",
        f"sparsity    {result['sparsity']:.4f} ({result['kept']:,} of {result['num_prunable']:,} weights kept)",
    ]
    lines += [
        f"            {row['layer']:16} {row['kept']:>8,} of {row['total']:>8,} kept, sparsity {row['sparsity']:.4f}"
        for row in result["layers"]
    ]
    lines += [f"warning     nothing is left of {row['layer']}" for row in result["layers"] if row["kept"] == 0]
    if small := result["smaller"]:
        lines.append(
            f"smaller     {small['parameters']:,} of {small['parameters_before']:,} parameters and "
            f"{small['multiply_adds']:,} of {small['multiply_adds_before']:,} multiply-adds a sample, channels cut out"
        )
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
    lines.append("seconds     " + ", ".join(f"{phase} {value:.2f}" for phase, value in seconds.items() if value))
    peak = memory.gib(result["peak_memory_bytes"])
    lines.append(f"memory      {peak} at the peak over the start, PyTorch's own workspaces included")
    return "\n".join(lines)


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
