"""Gradual pruning of a network of the zoo, from one frozen description of everything that can change its result."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.problem import load_problem
from woodfisher_core.fine_tuning import FineTuning
from woodfisher_core.gradual import GradualResult, prune_gradually
from woodfisher_core.gradual_run import EpochRecord
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.schedules import GradualSchedule
from woodfisher_core.snapshots import plain

# Of PruneConfig: what a gradual run takes from elsewhere, or has no use for.
_OWN = frozenset({"sparsity", "seed"})


@dataclass(frozen=True, kw_only=True)
class GradualConfig:
    """``prune`` says which network, data and method (its sparsity is the schedule's last), the others how it trains."""

    prune: PruneConfig
    schedule: GradualSchedule
    epochs: int
    tuning: FineTuning = field(default_factory=FineTuning)

    def __post_init__(self):
        if self.prune.sparsity != self.schedule.final:
            object.__setattr__(self, "prune", self.prune.replace(sparsity=self.schedule.final))
        if self.prune.sample_indices is not None:
            raise InputError("sample indices: a gradual run draws fresh samples at every step. Leave them out.")

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values, group by group."""
        groups = {"schedule": self.schedule, "tuning": self.tuning}
        values = {name: plain(dataclasses.asdict(group)) for name, group in groups.items()}
        return {"prune": self.prune.to_dict(), "epochs": self.epochs, **values}

    @property
    def key(self) -> str:
        """Hex sha256 of everything that can change the result."""
        identity = {**self.to_dict(), "prune": self.prune.key}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def run_gradual(
    config: GradualConfig,
    snapshot: str | Path | None = None,
    progress: Callable[[EpochRecord], None] | None = None,
    folder: str | Path | None = None,
) -> tuple[GradualConfig, GradualResult]:
    """Runs ``config`` on its network's training set and scores every step on the test set.

    Returns the config with the device and the hashes of weights and data filled in, so that its key names the result.
    ``snapshot`` and ``progress`` are those of :func:`prune_gradually`; in a ``folder`` the snapshot is named by that key.
    """
    problem = load_problem(config.prune)
    found = {"weights_hash": problem.weights_hash, "data_hash": problem.dataset.hash, "device": str(problem.device)}
    config = dataclasses.replace(config, prune=config.prune.replace(**found))
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        snapshot = Path(folder) / f"{config.key[:16]}.safetensors"
    options = {f.name: getattr(config.prune, f.name) for f in dataclasses.fields(PruneOptions) if f.name not in _OWN}
    model = problem.model.requires_grad_(True)
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
        snapshot=snapshot,
        progress=progress,
    )
