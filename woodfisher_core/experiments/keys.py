"""What each kept result depends on: settings that it never reads are left out, so that changing them recomputes nothing."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from woodfisher_core.data import find_root, get_dataset
from woodfisher_core.devices import resolve_device
from woodfisher_core.experiments.config import SHIPPED, PruneConfig
from woodfisher_core.methods import EMPIRICAL, Need, get_method
from woodfisher_core.options import BLOCK_LAYER, Labels
from woodfisher_core.sampling import label_uniforms


def source_key(config: PruneConfig) -> tuple:
    """What the network and its data depend on; a replaced weights file counts as another."""
    if config.weights == SHIPPED:
        stamp = SHIPPED
    else:
        path = Path(config.weights)
        stamp = (str(path), path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else str(path)
    root = find_root(get_dataset(config.dataset), config.data_dir)
    own = (config.model, config.dataset, stamp, root, config.exclude, str(resolve_device(config.device)))
    own = (*own, config.test_images)
    return (*own, config.repair_batchnorm, config.seed, config.images) if config.repair_batchnorm else own


def rows_key(config: PruneConfig) -> tuple:
    """What gradient rows depend on, but for their number."""
    read = (config.mini_batch, config.labels, config.seed, config.sample_indices, config.gradient_precision)
    return (*source_key(config), *read)


def fisher_key(config: PruneConfig) -> tuple:
    """What a Fisher depends on."""
    return (*rows_key(config), config.num_samples, config.block_size, config.solver)


def curvature_key(config: PruneConfig) -> tuple:
    """What the curvature of the config's method depends on."""
    method = get_method(config.method)
    if method.curvature is EMPIRICAL:
        return fisher_key(config)
    return (method.name, *rows_key(config), config.num_samples)


def context_keys(config: PruneConfig) -> dict[str, tuple]:
    """What each part of a method's context depends on."""
    method = get_method(config.method)
    curvature = curvature_key(config)
    inverse = (*curvature, config.damping, config.damping_scale)
    data = inverse if config.uses_damping else curvature if config.uses_data else (config.seed, *source_key(config))
    return {
        "fisher": fisher_key(config),
        "curvature": curvature,
        "damping": inverse,
        "inverse": inverse,
        "diagonal": inverse,
        "saliency": (method.name, config.flops_power, config.probes, *data),
        "positions": source_key(config),
    }


def result_key(config: PruneConfig) -> tuple:
    """What a mask and its weights depend on: settings that the method never reads are left out."""
    read = (
        config.method,
        config.sparsity,
        config.pattern,
        config.scope,
        config.budget,
        config.flops_power,
        config.update,
    )
    read = (*read, config.update_scale, config.batchnorm_images)
    needs = get_method(config.method).needs
    if config.batchnorm_images or Need.SEED in needs:
        read = (*read, config.seed, config.sample_indices)
    if config.stages > 1:
        read = (*read, config.stages, config.stage_shape, config.fresh_samples, config.images)
    if not config.uses_data:
        return (*source_key(config), *read)
    read = (*read, config.probes)
    if config.uses_damping:
        return (*curvature_key(config), config.damping, config.damping_scale, *read)
    return (*curvature_key(config.replace(block_size=BLOCK_LAYER)), *read)


def curve_key(config: PruneConfig, sparsities: Sequence[float]) -> tuple:
    """What a curve over ``sparsities`` depends on."""
    return ("curve", *result_key(config.replace(sparsity=0.0)), tuple(sparsities))


def digest(indices: np.ndarray) -> str:
    """A short name of these samples."""
    return hashlib.sha256(indices.tobytes()).hexdigest()


def given_indices(config: PruneConfig) -> np.ndarray | None:
    """The sample indices the config names, where it names them."""
    return None if config.sample_indices is None else np.array(config.sample_indices, dtype=np.int64)


def label_options(config: PruneConfig, start: int, count: int) -> dict[str, object]:
    """Sampled labels of the ``count`` samples after the first ``start``."""
    if config.labels is Labels.TRUE:
        return {"labels": config.labels}
    return {"labels": config.labels, "uniforms": label_uniforms(start + count, config.seed)[start:]}
