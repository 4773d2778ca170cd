"""What changes from epoch to epoch in a gradual run, and so what its snapshot holds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from woodfisher_core.snapshots import check_same, read_snapshot, write_snapshot


@dataclass(frozen=True)
class Score:
    """``accuracy`` in percent and mean ``loss`` over the evaluation samples."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: the network ``before`` and straight after pruning (``pruned``), and ``after`` training.

    The first two are None in epochs that do not prune. ``level`` is the schedule's sparsity in force, ``sparsity`` the fraction
    of the prunable weights that is gone; ``training_loss`` is the mean over the epoch, while the weights moved.
    """

    epoch: int
    level: float
    sparsity: float
    learning_rate: float
    training_loss: float
    before: Score | None
    pruned: Score | None
    after: Score


@dataclass
class Run:
    """A gradual run between two epochs; ``keep`` (d,) bool is its mask, ``dense`` the score it started from."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    keep: Tensor
    dense: Score
    records: list[EpochRecord]

    @property
    def sparsity(self) -> float:
        return 1.0 - int(self.keep.sum()) / len(self.keep)


def save(run: Run, path: Path, settings: Mapping[str, object]) -> None:
    """Writes everything the next epoch starts from; ``settings`` (plain JSON values) are what may not differ then."""
    tensors = {f"model/{name}": tensor for name, tensor in run.network.state_dict().items()}
    for name, parameter in run.network.named_parameters():
        for key, value in run.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{name}/{key}"] = value
    tensors |= {"keep": run.keep, "generator": run.generator.get_state()}
    records = [asdict(record) for record in run.records]
    write_snapshot(path, tensors, {"settings": dict(settings), "dense": asdict(run.dense), "records": records})


def resume(
    path: Path,
    settings: Mapping[str, object],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> Run:
    """The run saved in ``path``, its tensors copied into ``network``, ``optimizer`` and ``generator``.

    Raises:
        InputError: The file is damaged, or was made with other settings.
    """
    tensors, about = read_snapshot(path)
    check_same(path, settings, about["settings"])
    network.load_state_dict(_under("model/", tensors))
    remembered = [_under(f"optimizer/{name}/", tensors) for name, _ in network.named_parameters()]
    state = {index: own for index, own in enumerate(remembered) if own}
    # PyTorch's own way in: it brings each tensor to the device and type that the optimizer keeps it in.
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])
    keep = tensors["keep"].to(next(network.parameters()).device)
    return Run(network, optimizer, generator, keep, _score(about["dense"]), _records(about))


def records_in(path: Path) -> tuple[EpochRecord, ...]:
    """The epochs that the snapshot in ``path`` holds.

    Raises:
        InputError: The file is damaged.
    """
    return tuple(_records(read_snapshot(path)[1]))


def _records(about: Mapping[str, list]) -> list[EpochRecord]:
    scores = ("before", "pruned", "after")
    return [EpochRecord(**record | {name: _score(record[name]) for name in scores}) for record in about["records"]]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _score(values: Mapping[str, float] | None) -> Score | None:
    return None if values is None else Score(**values)
