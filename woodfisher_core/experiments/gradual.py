"""Gradual pruning of a network of the zoo, from one frozen description of everything that can change its result."""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.reading import read_fields
from woodfisher_core.experiments.workspace import Workspace
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.gradual import GradualResult, check_epochs, check_pattern, prune_gradually
from woodfisher_core.gradual_run import EpochRecord
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.snapshots import plain

# Of PruneConfig: what a gradual run takes from elsewhere, or has no use for.
_OWN = frozenset({"sparsity", "seed"})
# Nothing is predicted on held-out images here: whatever the config says, it becomes the usual number.
_HELD_OUT = PruneConfig().held_out


@dataclass(frozen=True, kw_only=True)
class GradualConfig:
    """``prune`` says which network, data and method (its sparsity is the schedule's last), the others how it trains."""

    kind: ClassVar[str] = "gradual"

    prune: PruneConfig
    schedule: GradualSchedule
    epochs: int
    tuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self):
        object.__setattr__(self, "epochs", check_epochs(self.epochs, self.schedule))
        own = {"sparsity": self.schedule.final, "held_out": _HELD_OUT}
        if any(getattr(self.prune, name) != value for name, value in own.items()):
            object.__setattr__(self, "prune", self.prune.replace(**own))
        if self.prune.sample_indices is not None:
            raise InputError("sample indices: a gradual run draws fresh samples at every step. Leave them out.")
        check_pattern(self.prune.pattern, self.schedule)

    def replace(self, **changes) -> "GradualConfig":
        """A copy with ``changes``."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values, group by group."""
        groups = {"schedule": self.schedule, "tuning": self.tuning}
        values = {name: plain(dataclasses.asdict(group)) for name, group in groups.items()}
        return {"prune": self.prune.to_dict(), "epochs": self.epochs, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "GradualConfig":
        """The config :meth:`to_dict` described; unknown, missing and mistyped fields of every group are refused by name."""
        return read_fields(cls, values)

    @property
    def key(self) -> str:
        """Hex sha256 of everything that can change the result."""
        identity = {**self.to_dict(), "prune": self.prune.key}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def resolved(self, space: Workspace) -> "GradualConfig":
        """With the device chosen and the hashes of weights and data filled in; its key then names the result."""
        return self.replace(prune=space.resolve(self.prune))


def run_gradual(
    config: GradualConfig,
    snapshot: str | Path | None = None,
    progress: Callable[[EpochRecord], None] | None = None,
    folder: str | Path | None = None,
    *,
    space: Workspace | None = None,
    check: Callable[[], None] | None = None,
) -> tuple[GradualConfig, GradualResult]:
    """Runs ``config`` on its network's training set and scores every step on the test set.

    Returns the config with the device and the hashes of weights and data filled in, so that its key names the result.
    ``snapshot``, ``progress`` and ``check`` are those of :func:`prune_gradually`; in a ``folder`` the snapshot is named by that
    key. ``space`` gives the network and its data (a new one otherwise), and the bounds on memory.
    """
    space = space or Workspace()
    config = config.resolved(space)
    problem = space.problem(config.prune)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        snapshot = Path(folder) / f"{config.key[:16]}.safetensors"
    options = {f.name: getattr(config.prune, f.name) for f in dataclasses.fields(PruneOptions) if f.name not in _OWN}
    # A copy: the workspace's network is shared, and frozen.
    model = copy.deepcopy(problem.model).requires_grad_(True)
    return config, prune_gradually(
        model,
        problem.dataset.train.samples(),
        schedule=config.schedule,
        epochs=config.epochs,
        evaluate=problem.test,
        tuning=config.tuning,
        options=options,
        seed=config.prune.seed,
        exclude=config.prune.exclude,
        device=problem.device,
        memory_budget=space.memory_budget,
        storage=space.storage,
        scratch=space.scratch,
        snapshot=snapshot,
        progress=progress,
        check=check,
    )
