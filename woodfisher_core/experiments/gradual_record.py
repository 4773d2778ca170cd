"""A gradual run as the store and its job keep it: plain numbers an epoch, and back."""

import math
from collections.abc import Mapping
from dataclasses import asdict

from safetensors.torch import save

from woodfisher_core.environment import machine
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.tables import layer_table
from woodfisher_core.gradual import GradualResult, level_in
from woodfisher_core.gradual_run import EpochRecord, Score
from woodfisher_core.store import Metric, RunRecord

LAYER_COLUMNS = ("layer", "shape", "kept", "total")
# Under which name a run keeps its :func:`network_file`.
NETWORK = "network.safetensors"


def gradual_record(
    config: GradualConfig,
    result: GradualResult,
    seconds: float,
    origin: str = "",
    artefacts: Mapping[str, Mapping[str, object]] | None = None,
) -> RunRecord:
    """``result`` of the resolved ``config`` as a store keeps it; it took ``seconds`` in all.

    Metrics by epoch: ``accuracy`` (percent), ``loss`` and ``training loss`` (nats); in epochs that prune also
    ``accuracy before``, ``accuracy pruned`` and ``loss pruned``, before the epoch's training. Step 0 is the dense network. The
    headline is the last epoch's, not the best one's, which the test images would have picked.
    """
    prune = config.prune
    metrics = [Metric("accuracy", result.dense.accuracy, 0.0), Metric("loss", result.dense.loss, 0.0)]
    sparsity = 0.0
    for record in result.records:
        at = lambda name, value, gone, step=record.epoch: Metric(name, float(value), gone, step)  # noqa: E731
        if record.pruned is not None:
            metrics.append(at("accuracy before", record.before.accuracy, sparsity))
            metrics.append(at("accuracy pruned", record.pruned.accuracy, record.sparsity))
            metrics.append(at("loss pruned", record.pruned.loss, record.sparsity))
        sparsity = record.sparsity
        metrics.append(at("training loss", record.training_loss, sparsity))
        metrics.append(at("accuracy", record.after.accuracy, sparsity))
        metrics.append(at("loss", record.after.loss, sparsity))
    return RunRecord(
        kind=config.kind,
        key=config.key,
        config=config.to_dict(),
        about={name: getattr(prune, name) for name in ("model", "dataset", "method")},
        headline={
            "sparsity": result.sparsity,
            "accuracy": result.last.after.accuracy,
            "dense_accuracy": result.dense.accuracy,
            "loss": result.last.after.loss,
        },
        metrics=tuple(metrics),
        layers=tuple(layer_table(result.parameters, result.keep)[list(LAYER_COLUMNS)].to_dict("records")),
        seconds={"pruning and training": seconds},
        artefacts=artefacts or {},
        environment=machine(prune.device),
        origin=origin,
    )


def epochs_of(config: GradualConfig, run: RunRecord) -> tuple[EpochRecord, ...]:
    """The epochs of the ``run`` of ``config``, as they were when it ran."""
    found = {(metric.name, metric.step): metric for metric in run.metrics}
    value = lambda name, epoch: found[name, epoch].value  # noqa: E731
    records: list[EpochRecord] = []
    for epoch in range(1, config.epochs + 1):
        before = pruned = None
        if ("accuracy pruned", epoch) in found:
            before = Score(value("accuracy", epoch - 1), value("loss", epoch - 1))
            pruned = Score(value("accuracy pruned", epoch), value("loss pruned", epoch))
        records.append(
            EpochRecord(
                epoch,
                level_in(config.schedule, epoch),
                found["accuracy", epoch].sparsity,
                config.tuning.rate(epoch, config.epochs),
                value("training loss", epoch),
                before,
                pruned,
                Score(value("accuracy", epoch), value("loss", epoch)),
            )
        )
    return tuple(records)


def network_file(result: GradualResult) -> bytes:
    """The final network in safetensors: its whole state, and a ``<name>.mask`` beside each prunable weight."""
    masks = {f"{name}.mask": mask for name, mask in result.masks().items()}
    # Copies: tied weights share their memory, which safetensors refuses.
    tensors = {name: tensor.cpu().clone().contiguous() for name, tensor in (result.state_dict() | masks).items()}
    return save(tensors, metadata={"format": "pt"})


def epoch_values(record: EpochRecord) -> dict[str, object]:
    """``record`` as plain JSON, which has no NaN."""
    plain = lambda value: None if isinstance(value, float) and not math.isfinite(value) else value  # noqa: E731
    return {
        name: {key: plain(number) for key, number in value.items()} if isinstance(value, dict) else plain(value)
        for name, value in asdict(record).items()
    }
