"""A config as the command line that gives the same numbers."""

import dataclasses
import shlex

from woodfisher_core.experiments.config import PruneConfig

# Always said, so that the line shows what was chosen; the others only where they are not the default.
ALWAYS = ("scope", "update", "num_samples", "damping", "block_size", "labels", "seed", "solver", "device")
# Not flags of their own, or said in another way.
APART = (
    *("model", "method", "sparsity", "pattern", "exclude", "sample_indices", "fresh_samples"),
    *("weights_hash", "data_hash", "engine_version"),
)


def command_line(config: PruneConfig) -> str:
    """One line for a shell; a config with sample indices of its own needs their file, for which a name stands."""
    default = PruneConfig(model=config.model, method=config.method, sparsity=config.sparsity)
    words = ["python", "-m", "woodfisher_core", "prune", "--model", config.model, "--method", config.method]
    words += ["--sparsity", f"{config.sparsity:.12g}"] if config.pattern is None else ["--pattern", config.pattern]
    for layer in config.exclude:
        words += ["--exclude", layer]
    others = [f.name for f in dataclasses.fields(config) if f.name not in {*ALWAYS, *APART}]
    for name in (*ALWAYS, *others):
        value = getattr(config, name)
        if name in ALWAYS or value != getattr(default, name):
            words += [f"--{name.replace('_', '-')}", f"{value:.12g}" if isinstance(value, float) else str(value)]
    if config.sample_indices is not None:
        words += ["--sample-indices", "indices.txt"]
    if not config.fresh_samples:
        words.append("--fixed-samples")
    return shlex.join(words)
