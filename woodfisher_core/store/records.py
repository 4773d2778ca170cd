"""What a store remembers of one run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from woodfisher_core.options import Choice

# The kind of the runs whose config holds a whole other one, in its group ``prune``.
GRADUAL = "gradual"


class Status(Choice):
    """What became of a run."""

    DONE = ("done", "Done", "Its numbers are here.")
    FAILED = ("failed", "Failed", "It raised an error, which is here; asking for it again runs it again.")


@dataclass(frozen=True)
class Metric:
    """A number of a run: ``name`` (accuracy in percent, loss in nats …) at ``step`` of its curve, stages or epochs.

    ``sparsity`` is the fraction of the prunable weights that is gone there.
    """

    name: str
    value: float
    sparsity: float
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as a store keeps it.

    ``config`` is plain JSON and ``key`` its hash, ``kind`` says which class reads it; ``headline`` holds the numbers lists are
    filtered by (``sparsity``, ``accuracy``, ``dense_accuracy``, ``loss``) and ``about`` their ``model``, ``dataset``, ``method``.
    ``layers`` are rows of ``layer``, ``shape``, ``kept``, ``total``; ``seconds`` are by phase; ``artefacts`` name files already
    in the store's folder: ``sha256`` and ``bytes`` by name. ``origin`` says where the run was asked for,
    ``label`` is what its user calls it.
    """

    kind: str
    key: str
    config: Mapping[str, object]
    about: Mapping[str, str]
    status: Status = Status.DONE
    error: str | None = None
    headline: Mapping[str, float | None] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    layers: tuple[Mapping[str, object], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    artefacts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    origin: str = ""
    label: str = ""
