"""Gradual pruning: prune a little, train an epoch or more, prune again (Zhu & Gupta 2017; Singh & Alistarh 2020, sec. 5.2).

Each pruning step is the one-shot ``prune`` at the schedule's level, with any method, scope and update; what is pruned stays at
exact zero through every optimizer step and is never revived.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from woodfisher_core import evaluation
from woodfisher_core.checkpoints import state_hash
from woodfisher_core.checks import whole_number
from woodfisher_core.data.base import Samples
from woodfisher_core.devices import resolve_device
from woodfisher_core.epoch import train_epoch
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation, Loss
from woodfisher_core.fine_tuning import FineTuning, hold_at_zero
from woodfisher_core.gradual_run import EpochRecord, Run, Score, resume, save
from woodfisher_core.parameters import PrunableParameters, patterns
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import parse_options, prune
from woodfisher_core.sampling import choose_samples, sample_order
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.snapshots import plain

GRADIENT_BATCH = 256


@dataclass(frozen=True)
class GradualResult:
    """A gradually pruned network, apart from the model it came from.

    ``keep`` (d,) bool is the final mask, ``dense`` the model's own score, ``records`` one an epoch. ``last`` is the last epoch,
    whose weights these are; ``best`` the most accurate one at the final sparsity: picked by the evaluation samples, which
    flatters it.
    """

    parameters: PrunableParameters
    keep: Tensor
    dense: Score
    records: tuple[EpochRecord, ...]
    best: EpochRecord
    _state: dict[str, Tensor]

    @property
    def last(self) -> EpochRecord:
        return self.records[-1]

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights removed."""
        return self.last.sparsity

    def masks(self) -> dict[str, Tensor]:
        """Parameter name → bool tensor, True where a weight stays."""
        return self.parameters.unflatten(self.keep)

    def state_dict(self) -> dict[str, Tensor]:
        """The final network's whole state dict."""
        return {name: tensor.clone() for name, tensor in self._state.items()}

    def applied_to(self, model: nn.Module) -> nn.Module:
        """A pruned and fine-tuned copy of ``model``, which itself stays as it is."""
        pruned = copy.deepcopy(model)
        pruned.load_state_dict(self._state)
        return pruned


def prune_gradually(
    model: nn.Module,
    train: Samples,
    *,
    schedule: GradualSchedule,
    epochs: int,
    evaluate: Callable[[nn.Module], Evaluation] | Samples,
    tuning: FineTuning | None = None,
    options: Mapping[str, object] | None = None,
    seed: int = 0,
    exclude: str | Iterable[str] = (),
    loss: Loss = cross_entropy,
    device: str | torch.device = "auto",
    memory_budget: int | None = None,
    storage: str | None = None,
    scratch: str | Path | None = None,
    snapshot: str | Path | None = None,
    progress: Callable[[EpochRecord], None] | None = None,
    check: Callable[[], None] | None = None,
) -> GradualResult:
    """Prunes and trains a copy of ``model`` for ``epochs`` epochs by ``schedule``.

    Pruning step k = 0, 1, … is ``prune`` with seed + k, on the first samples of ``sample_order(len(train), seed + k)``; with the
    option ``fresh_samples`` off, with the same seed and samples at every step. BatchNorm runs on batch statistics while training
    and on its running ones while pruning. The same arguments give the same bits, in one go or continued from a snapshot: on one
    device and number of threads, with gradients kept in the same way and deterministic kernels (PyTorch's on the CPU are).

    Args:
        model: Left untouched.
        train: What it trains on and what gradients come from; of these only the first ``images`` of the seed's order where
            that option is given.
        schedule: Which sparsity in which epoch.
        epochs: Passes over ``train`` in all, those of the schedule included.
        evaluate: Samples to evaluate on, or a function of the network (in eval mode) that does it.
        tuning: How it trains; :class:`FineTuning`'s defaults otherwise.
        options: Fields of :class:`PruneOptions` but for ``sparsity``, which the schedule gives, and ``seed``.
        seed: Of the gradient samples, and of order, augmentation and dropout in training.
        exclude: Layers to leave dense, by name or shell pattern; they are trained like the others.
        loss: ``loss(outputs, targets)``, the mean over a batch: what is trained, and what gradients are of.
        device: As for ``prune``; so are ``memory_budget``, ``storage`` and ``scratch``.
        snapshot: A file written before the first epoch and after each. Where it exists, the run continues after its last epoch.
        progress: Called with each epoch's record, once its snapshot is on the disk.
        check: Called often, also in the middle of epochs. What it raises ends the run; from a snapshot it goes on with the epoch
            it was in.

    Raises:
        InputError: A setting cannot be used, or the snapshot is damaged, another run's or cannot be written; found before any
            pruning or training.
        NumericalError: Training diverged, or see ``prune``.
    """
    tuning, exclude = tuning or FineTuning(), patterns(exclude)
    chosen = _checked_options(options or {}, schedule, seed)
    epochs = check_epochs(epochs, schedule)
    check = check or (lambda: None)
    where = resolve_device(device)
    network = copy.deepcopy(model).to(where).eval()
    parameters = PrunableParameters.from_model(network, exclude)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise InputError(
            "model: all its parameters are frozen, so it cannot train. Call model.requires_grad_(True) first."
        )
    train = _available(train, chosen)
    if tuning.augment and train.inputs.ndim != 4:
        raise InputError(
            f"augment: only images (C, H, W) can be shifted, got inputs of shape {tuple(train.inputs.shape[1:])}. Turn it off."
        )
    optimizer, generator = tuning.optimizer_for(network), torch.Generator().manual_seed(chosen.seed)
    score = _scoring(evaluate, network, loss, where)
    places = {"memory_budget": memory_budget, "storage": storage, "scratch": scratch}

    settings = {}
    file = None if snapshot is None else Path(snapshot)
    if file is not None:
        named = {"epochs": epochs, "seed": chosen.seed, "exclude": exclude, "device": where.type}
        settings = _settings(network, train, evaluate, loss, named, schedule=schedule, tuning=tuning, options=chosen)
    if file is not None and file.exists():
        run = resume(file, settings, network, optimizer, generator)
    else:
        keep = torch.ones(parameters.num_prunable, dtype=torch.bool, device=where)
        run = Run(network, optimizer, generator, keep, score(), [])
        if file is not None:
            save(run, file, settings)

    steps = {epoch: (k, level) for k, (epoch, level) in enumerate(schedule.levels.items())}
    for epoch in range(len(run.records) + 1, epochs + 1):
        before = pruned = None
        if epoch in steps:
            before = run.records[-1].after if run.records else run.dense
            k, level = steps[epoch]
            step = dataclasses.replace(chosen, sparsity=level, seed=_step_seed(chosen, k))
            _prune_once(
                run, train, step, loss=loss, exclude=exclude, device=where, progress=lambda _: check(), **places
            )
            pruned = score()
        rate = tuning.rate(epoch, epochs)
        training_loss = _train_once(run, parameters, train, tuning, rate, loss, check)
        record = EpochRecord(
            epoch, level_in(schedule, epoch), run.sparsity, rate, training_loss, before, pruned, score()
        )
        run.records.append(record)
        if file is not None:
            save(run, file, settings)
        if progress is not None:
            progress(record)
    best = best_of(run.records, schedule)
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    return GradualResult(parameters, run.keep, run.dense, tuple(run.records), best, state)


def best_of(records: Sequence[EpochRecord], schedule: GradualSchedule) -> EpochRecord:
    """The most accurate epoch at the final sparsity, the first of equals."""
    return max(records[schedule.end_epoch - 1 :], key=lambda record: record.after.accuracy)


def level_in(schedule: GradualSchedule, epoch: int) -> float:
    """The sparsity in force in ``epoch``: that of its last step, 0 before the first."""
    return max((level for start, level in schedule.levels.items() if start <= epoch), default=0.0)


def check_epochs(epochs: int, schedule: GradualSchedule) -> int:
    """``epochs`` if they are enough for ``schedule``.

    Raises:
        InputError: They are not, or no whole number.
    """
    epochs = whole_number("epochs", epochs, 1)
    if epochs < schedule.end_epoch:
        raise InputError(
            f"epochs: expected at least {schedule.end_epoch}, where the schedule ends, got {epochs}. Raise the epochs or lower "
            "the schedule's end epoch."
        )
    return epochs


def check_pattern(pattern: str | None, schedule: GradualSchedule) -> None:
    """Raises an InputError where ``schedule`` has several steps and a pattern is wanted, which is reached in one."""
    if pattern is not None and len(schedule.levels) > 1:
        raise InputError(
            f"pattern {pattern}: it is reached in one step, got a schedule of {len(schedule.levels)}. Let the schedule start "
            "and end in the same epoch, at the pattern's sparsity."
        )


def _checked_options(options: Mapping[str, object], schedule: GradualSchedule, seed: int) -> PruneOptions:
    """The options of the last step, once those of every step are known to be usable."""
    for name, instead in (("sparsity", "set it in the schedule"), ("seed", "give it beside the options")):
        if name in options:
            raise InputError(f"options: {name} does not belong here; {instead}.")
    check_pattern(options.get("pattern"), schedule)
    levels = schedule.levels.values()
    return [parse_options({**options, "sparsity": level, "seed": seed}) for level in levels][-1]


def _available(train: Samples, options: PruneOptions) -> Samples:
    """The training samples a run may learn from, once they are known to be enough."""
    if options.images is not None:
        some = torch.from_numpy(choose_samples(len(train), options.images, options.seed))
        train = Samples(train.inputs[some], train.targets[some])
    if options.uses_data:
        choose_samples(len(train), options.num_samples * options.mini_batch, options.seed)
    if len(train) < 2:
        raise InputError(f"training samples: expected at least 2, got {len(train)}.")
    return train


def _scoring(
    evaluate: Callable[[nn.Module], Evaluation] | Samples, network: nn.Module, loss: Loss, device: torch.device
) -> Callable[[], Score]:
    """A function that scores ``network`` as it is when called, and leaves it in eval mode."""
    samples = evaluate.to(device) if isinstance(evaluate, Samples) else None

    def score() -> Score:
        network.eval()
        own = samples is None
        found = evaluate(network) if own else evaluation.evaluate(network, samples.for_evaluation(), loss=loss)
        return Score(float(found.accuracy), float(found.loss))

    return score


def _settings(
    network: nn.Module, train: Samples, evaluate: object, loss: Loss, named: Mapping[str, object], **groups: object
) -> dict[str, object]:
    """Everything that names a run, flat and as plain JSON values; a function can only be told by its name."""
    settings = dict(named)
    for group, values in groups.items():
        settings |= {f"{group}.{field.name}": getattr(values, field.name) for field in dataclasses.fields(values)}
    del settings["options.sparsity"], settings["options.seed"]  # given by the schedule, and beside the options
    settings["loss"] = getattr(loss, "__qualname__", type(loss).__qualname__)
    settings["starting weights"] = state_hash(network.state_dict())
    for name, samples in (("training samples", train), ("evaluation samples", evaluate)):
        if isinstance(samples, Samples):
            settings[name] = state_hash({"inputs": samples.inputs, "targets": samples.targets})
    return plain(settings)


def _step_seed(options: PruneOptions, step: int) -> int:
    return (options.seed + step) % 2**32 if options.fresh_samples else options.seed


def _prune_once(run: Run, train: Samples, options: PruneOptions, **places) -> None:
    """Prunes the run's network in place to the options' sparsity, among the weights still there."""
    order = torch.from_numpy(sample_order(len(train), options.seed)).split(GRADIENT_BATCH)
    result = prune(
        run.network,
        ((train.inputs[some], train.targets[some]) for some in order),
        keep=None if run.keep.all() else run.keep,
        **places,
        **{field.name: getattr(options, field.name) for field in dataclasses.fields(options)},
    )
    run.network.load_state_dict(result.state_dict())
    run.keep = result.mask.keep.to(run.keep.device)


def _train_once(
    run: Run,
    parameters: PrunableParameters,
    train: Samples,
    tuning: FineTuning,
    rate: float,
    loss: Loss,
    check: Callable[[], None],
) -> float:
    """One epoch at learning rate ``rate``, the mask held after every step; returns its mean loss."""
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    masks = parameters.unflatten(run.keep)

    def after_step() -> None:
        hold_at_zero(run.network, masks, run.optimizer)
        check()

    with _own_randomness(run.generator, run.keep.device):
        return train_epoch(
            run.network,
            train,
            run.optimizer,
            run.generator,
            batch_size=tuning.batch_size,
            augment=tuning.augment,
            bfloat16=tuning.precision == "bfloat16",
            loss=loss,
            after_step=after_step,
        )


@contextmanager
def _own_randomness(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """What draws from PyTorch's global stream (dropout) depends on ``generator`` alone; the caller's stream is untouched."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
