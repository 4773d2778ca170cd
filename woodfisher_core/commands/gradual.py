"""``gradual``: prune step by step while training goes on, from the command line."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from woodfisher_core.commands.flags import add_keep, add_method, add_network, choices, method_options, network_options
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.gradual import GradualConfig, run_gradual
from woodfisher_core.experiments.gradual_record import NETWORK, epochs_of, gradual_record, network_file
from woodfisher_core.experiments.remember import begun
from woodfisher_core.fine_tuning import FineTuning, Optimizer, RateShape
from woodfisher_core.gradual import best_of
from woodfisher_core.gradual_run import EpochRecord, Score
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.store import Store, artefacts
from woodfisher_core.store.claims import heartbeat

# Where nobody says otherwise.
SPARSITY = 0.9


def add_gradual(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = (
        "Prunes a trained network step by step along a cubic schedule and trains it in between; what is pruned stays at zero. "
        "The test accuracy is printed before and after every step."
    )
    add_network(parser)
    add_method(parser, num_samples=400, sparsity=SPARSITY)
    schedule = parser.add_argument_group("schedule")
    schedule.add_argument(
        "--epochs", type=int, default=10, metavar="E", help="passes over the data in all (default: 10)"
    )
    schedule.add_argument("--initial", type=float, default=0.05, metavar="S", help="first sparsity (default: 0.05)")
    schedule.add_argument("--start", type=int, default=1, metavar="E", help="first epoch that prunes (default: 1)")
    schedule.add_argument("--end", type=int, metavar="E", help="last epoch that prunes (default: three in five)")
    schedule.add_argument("--every", type=int, default=1, metavar="E", help="epochs between steps (default: 1)")
    tuning = parser.add_argument_group("training")
    default = FineTuning()
    tuning.add_argument(
        "--optimizer", default=default.optimizer, metavar="NAME", help=choices(Optimizer, Optimizer.SGD)
    )
    tuning.add_argument(
        "--learning-rate", type=float, default=default.learning_rate, metavar="R", help="(default: 0.01)"
    )
    tuning.add_argument(
        "--rate-shape", default=default.rate_shape, metavar="SHAPE", help=choices(RateShape, RateShape.COSINE)
    )
    tuning.add_argument("--weight-decay", type=float, default=default.weight_decay, metavar="R", help="(default: 1e-4)")
    tuning.add_argument("--batch-size", type=int, default=default.batch_size, metavar="N", help="(default: 64)")
    tuning.add_argument("--augment", action="store_true", help="shift images by up to 4 pixels, mirror half of them")
    tuning.add_argument(
        "--precision",
        default=default.precision,
        metavar="TYPE",
        help="float32, or bfloat16 products (default: float32)",
    )
    run = parser.add_argument_group("run")
    run.add_argument("--seed", type=int, default=0, metavar="K", help="samples, order and augmentation (default: 0)")
    run.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or mps (default: auto)")
    run.add_argument(
        "--snapshot", metavar="FILE", help="written after each epoch; a run that was stopped goes on from it"
    )
    run.add_argument("--output", metavar="DIR", help="write pruned.safetensors (weights and masks) and run.json there")
    add_keep(run)
    run.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")
    parser.set_defaults(run=_gradual)


def _gradual(options: argparse.Namespace, memory_at_start: int) -> int:
    if options.sample_indices is not None:
        raise InputError("--sample-indices: a gradual run draws fresh samples at every step. Leave it out.")
    own = method_options(options)
    if options.sparsity is None and options.pattern is None:
        own["sparsity"] = SPARSITY
    prune = PruneConfig(**network_options(options), **own)
    schedule = GradualSchedule(
        initial=options.initial,
        final=prune.sparsity,
        start_epoch=options.start,
        end_epoch=max(options.start, options.epochs * 3 // 5) if options.end is None else options.end,
        frequency=options.every,
    )
    tuning = FineTuning(
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        rate_shape=options.rate_shape,
        weight_decay=options.weight_decay,
        batch_size=options.batch_size,
        augment=options.augment,
        precision=options.precision,
    )
    config = GradualConfig(prune=prune, schedule=schedule, epochs=options.epochs, tuning=tuning)
    # A store that cannot be used is found out before the work.
    store = None if options.store is None else Store(options.store)
    space = Workspace()
    if store is None:
        done = _computed(options, config, space)
    else:
        config = config.resolved(space)
        done = _kept(options, config, space, store)
    found = _to_json(done)
    if options.output:
        _save(Path(options.output), done, found)
    print(json.dumps(found) if options.json else _readable(done))
    return 0


@dataclass(frozen=True)
class _Done:
    """What there is to say of a run, whether it ran here or was known; ``number`` is its own in the store."""

    config: GradualConfig
    dense: Score
    records: Sequence[EpochRecord]
    network: Callable[[], bytes]
    number: int | None = None

    @property
    def best(self) -> EpochRecord:
        return best_of(self.records, self.config.schedule)


def _computed(
    options: argparse.Namespace, config: GradualConfig, space: Workspace, store: Store | None = None
) -> _Done:
    """Runs ``config`` here, and keeps the run with its network where there is a ``store``."""
    started = time.perf_counter()
    with tqdm(total=config.epochs, unit="epoch", leave=False, disable=None) as bar:

        def progress(record: EpochRecord) -> None:
            bar.update(record.epoch - bar.n)
            if not options.json:
                bar.write(_line(record), file=sys.stderr)

        with nullcontext() if store is None else heartbeat(store):
            config, result = run_gradual(config, options.snapshot, progress, space=space)
    number = None
    if store is not None:
        network = {NETWORK: artefacts.put(store.folder, network_file(result))}
        number = store.save(gradual_record(config, result, time.perf_counter() - started, "gradual", network))
    return _Done(config, result.dense, result.records, lambda: network_file(result), number)


def _kept(options: argparse.Namespace, config: GradualConfig, space: Workspace, store: Store) -> _Done:
    """The run of the resolved ``config`` from ``store``, where it is computed once."""
    said = []

    def waiting() -> None:
        if not said:
            said.append("another process computes this run: waiting for its result")
            print(said[0], file=sys.stderr)

    with begun(store, config.key, waiting) as known:
        if known is None:
            return _computed(options, config, space, store)
        run = store.get(known)
    print(f"run {known} is in the store already: nothing is trained", file=sys.stderr)
    dense = {metric.name: metric.value for metric in run.metrics if metric.step == 0}

    def network() -> bytes:
        if NETWORK not in run.artefacts:
            raise InputError(
                f"output: run {known} is in the store without its network. Leave --store out to train it again."
            )
        return artefacts.get(store.folder, run.artefacts[NETWORK]["sha256"])

    return _Done(config, Score(dense["accuracy"], dense["loss"]), epochs_of(config, run), network, known)


def _line(record: EpochRecord) -> str:
    step = ""
    if record.pruned is not None:
        step = f"pruned to {record.sparsity:.4f}: {record.before.accuracy:.2f} → {record.pruned.accuracy:.2f} %, then "
    return f"epoch {record.epoch}: {step}trained to {record.after.accuracy:.2f} %"


def _readable(done: _Done) -> str:
    config, best, last = done.config, done.best, done.records[-1]
    kept = () if done.number is None else (f"run         {done.number}",)
    return "\n".join(
        (
            f"{config.prune.model} on {config.prune.dataset}: {config.prune.method}, {config.epochs} epochs",
            f"sparsity    {last.sparsity:.4f}",
            f"accuracy    {done.dense.accuracy:.2f} % dense → {last.after.accuracy:.2f} % at the end "
            f"(best at this sparsity {best.after.accuracy:.2f} % in epoch {best.epoch}, picked by these same test images)",
            *kept,
        )
    )


def _to_json(done: _Done) -> dict[str, object]:
    last = done.records[-1]
    found = {
        "dense": asdict(done.dense),
        "sparsity": last.sparsity,
        "last": asdict(last),
        "best": asdict(done.best),
        "epochs": [asdict(record) for record in done.records],
        "config": done.config.to_dict(),
        "config_key": done.config.key,
    }
    return found if done.number is None else {**found, "run": done.number}


def _save(folder: Path, done: _Done, found: dict[str, object]) -> None:
    network = done.network()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pruned.safetensors").write_bytes(network)
        (folder / "run.json").write_text(json.dumps(found, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"output: cannot write to {folder} ({error}). Choose another --output.") from None
