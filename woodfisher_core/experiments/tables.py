"""Results as pandas tables: all that the charts are drawn from and that people download."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments.results import CurvePoint, LossChange
from woodfisher_core.masks import Mask
from woodfisher_core.methods import get_method
from woodfisher_core.parameters import PrunableParameters

HISTOGRAM_BINS = 60
# Statistics this far below the largest are counted in the first bin: dead weights would stretch the axis to nothing.
HISTOGRAM_DECADES = 8


def layer_table(parameters: PrunableParameters, keep: Tensor) -> pd.DataFrame:
    """One row a layer: ``layer``, ``shape``, ``kept`` and ``total`` weights, ``sparsity``."""
    rows = []
    for layer in parameters.layers:
        kept = int(keep[layer.slice].sum())
        rows.append(
            {
                "layer": layer.module,
                "shape": "×".join(str(n) for n in layer.shape),
                "kept": kept,
                "total": layer.numel,
                "sparsity": 1.0 - kept / layer.numel,
            }
        )
    return pd.DataFrame(rows)


def curve_table(
    curves: Mapping[str, Sequence[CurvePoint]], num_test: int, labels: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A row a point: ``method``, ``label``, ``sparsity`` removed, ``accuracy``, ``standard_error`` (points), ``loss``, ``kept``.

    ``labels`` names the curves for people (the methods' own labels by default).
    """
    rows = []
    for name, points in curves.items():
        for point in points:
            share = point.accuracy / 100.0
            rows.append(
                {
                    "method": name,
                    "label": (labels or {}).get(name) or get_method(name).label,
                    "sparsity": point.removed,
                    "accuracy": point.accuracy,
                    "standard_error": 100.0 * (share * (1.0 - share) / num_test) ** 0.5,
                    "loss": point.loss,
                    "kept": point.kept,
                }
            )
    return pd.DataFrame(rows)


def saliency_table(parameters: PrunableParameters, saliency: Tensor, keep: Tensor) -> pd.DataFrame:
    """Histogram of log10 saliency a layer: ``layer``, ``left``, ``right``, ``kept``, ``pruned``.

    Weights with a saliency of exactly zero have no logarithm; :func:`zero_counts` counts them.
    """
    values, kept = saliency.cpu().numpy(), keep.cpu().numpy()
    positive = values[values > 0]
    high = np.log10(positive.max()) if len(positive) else 0.0
    low = max(np.log10(positive.min()), high - HISTOGRAM_DECADES) if len(positive) else -1.0
    edges = np.linspace(low, high if high > low else low + 1.0, HISTOGRAM_BINS + 1)
    rows = []
    for layer in parameters.layers:
        part, stays = values[layer.slice], kept[layer.slice]
        logs = np.log10(np.where(part > 0, part, 1.0)).clip(edges[0], edges[-1])
        counts = {
            name: np.histogram(logs[chosen & (part > 0)], edges)[0]
            for name, chosen in (("kept", stays), ("pruned", ~stays))
        }
        rows.append(pd.DataFrame({"layer": layer.module, "left": edges[:-1], "right": edges[1:], **counts}))
    return pd.concat(rows, ignore_index=True)


def zero_counts(parameters: PrunableParameters, saliency: Tensor) -> dict[str, int]:
    """Weights a layer whose saliency is exactly zero (dead weights, or inputs that never vary)."""
    return {layer.module: int((saliency[layer.slice] == 0).sum()) for layer in parameters.layers}


def thresholds_by_layer(parameters: PrunableParameters, mask: Mask) -> dict[str, float]:
    """Each layer's threshold; under one global threshold the same everywhere."""
    values = mask.thresholds * len(parameters.layers) if len(mask.thresholds) == 1 else mask.thresholds
    return dict(zip(parameters.modules, values, strict=True))


def loss_table(change: LossChange) -> pd.DataFrame:
    """One row a term and sample set: ``term`` (``|`` where a label may break), ``samples``, ``nats``."""
    rows = []
    for samples, terms, measured in (
        ("held-out samples", change.predicted_held_out, change.measured_held_out),
        ("Fisher samples", change.predicted_fisher_samples, change.measured_fisher_samples),
    ):
        if terms is not None:
            rows.append({"term": "first order|gᵀδ", "samples": samples, "nats": terms.first_order})
            rows.append({"term": "second order|½δᵀFδ", "samples": samples, "nats": terms.second_order})
            rows.append({"term": "predicted|(sum)", "samples": samples, "nats": terms.total})
        if measured is not None:
            rows.append({"term": "measured", "samples": samples, "nats": measured})
    return pd.DataFrame(rows)


def class_table(dense: Evaluation, pruned: Evaluation, classes: Sequence[str]) -> pd.DataFrame:
    """One row a class: ``class``, ``dense`` and ``pruned`` accuracy in percent, ``count`` of test images."""
    return pd.DataFrame(
        {
            "class": list(classes),
            "dense": dense.per_class(len(classes)),
            "pruned": pruned.per_class(len(classes)),
            "count": np.bincount(dense.targets.numpy(), minlength=len(classes)),
        }
    )


def flipped_table(dense: Evaluation, pruned: Evaluation) -> pd.DataFrame:
    """One row a test image whose answer changed: ``index``, ``target``, ``dense``, ``pruned``, ``kind`` lost/won/other."""
    changed = (dense.predictions != pruned.predictions).nonzero().squeeze(1)
    table = pd.DataFrame(
        {
            "index": changed.numpy(),
            "target": dense.targets[changed].numpy(),
            "dense": dense.predictions[changed].numpy(),
            "pruned": pruned.predictions[changed].numpy(),
        }
    )
    lost, won = table["dense"] == table["target"], table["pruned"] == table["target"]
    table["kind"] = np.select([lost, won], ["lost", "won"], "other")
    return table
