"""Flags that several commands share, and what they say: their texts come from the registries and the options themselves."""

import argparse
import math

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import SHIPPED
from woodfisher_core.methods import METHODS
from woodfisher_core.models import MODELS
from woodfisher_core.options import (
    Budget,
    Choice,
    DampingScale,
    GradientPrecision,
    Labels,
    Scope,
    Solver,
    StageShape,
    Update,
)
from woodfisher_core.prune_options import DEFAULT_SPARSITY

GIB = 1 << 30
# The fields of PruneConfig, but for the layers left alone, that have a flag of the same name.
NETWORK_FIELDS = ("model", "dataset", "data_dir", "weights", "repair_batchnorm", "test_images", "device")
# The fields of PruneOptions that have a flag of the same name.
METHOD_FIELDS = (
    *("method", "sparsity", "pattern", "budget", "flops_power", "num_samples", "mini_batch", "labels", "damping"),
    *(
        "damping_scale",
        "block_size",
        "update",
        "update_scale",
        "scope",
        "seed",
        "solver",
        "gradient_precision",
        "images",
    ),
    *("batchnorm_images", "stages", "stage_shape", "probes"),
)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Which network, on which data."""
    what = parser.add_argument_group("network and data")
    what.add_argument("--model", default="mlpnet", metavar="NAME", help=f"one of {', '.join(MODELS)} (default: mlpnet)")
    what.add_argument("--dataset", metavar="NAME", help="data set (default: the first that the network reads)")
    what.add_argument("--data-dir", metavar="DIR", help="folder of the data (default: $WOODFISHER_DATA or the cache)")
    what.add_argument(
        "--weights",
        metavar="FILE",
        default=SHIPPED,
        help="trained weights, .safetensors or a PyTorch checkpoint, of which tensors only are read (default: shipped)",
    )
    what.add_argument(
        "--repair-batchnorm",
        type=int,
        default=0,
        metavar="K",
        help="first of all re-estimate the network's BatchNorm statistics on K training images (default: 0, keep them)",
    )
    what.add_argument(
        "--test-images", type=int, metavar="K", help="evaluate on K test images, always the same (default: all)"
    )
    what.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="LAYER",
        help="leave a layer alone; name or pattern, repeatable",
    )


def add_method(
    parser: argparse.ArgumentParser,
    num_samples: int = 1000,
    sparsity: float = DEFAULT_SPARSITY,
    solver: Solver = Solver.AUTO,
) -> None:
    """Which method, how much of what, and from which samples (defaults as given); ``--seed`` is the command's own."""
    how = parser.add_argument_group("method")
    how.add_argument(
        "--method", default="woodfisher", metavar="NAME", help=f"{', '.join(METHODS)} (default: woodfisher)"
    )
    how.add_argument(
        "--sparsity",
        type=float,
        metavar="S",
        help=f"fraction to remove, [0, 1) (default: {sparsity:g}, or the pattern's)",
    )
    how.add_argument(
        "--pattern", metavar="N:M", help="2:4, say: exactly 2 of every 4 inputs stay, instead of a threshold"
    )
    how.add_argument("--scope", default=Scope.GLOBAL, metavar="SCOPE", help=choices(Scope, Scope.GLOBAL))
    how.add_argument("--update", metavar="RULE", help=choices(Update, None) + " (default: the method's own)")
    how.add_argument("--update-scale", type=float, default=1.0, metavar="X", help="factor on the independent update")
    how.add_argument("--budget", default=Budget.WEIGHTS, metavar="WHAT", help=choices(Budget, Budget.WEIGHTS))
    how.add_argument(
        "--flops-power",
        type=float,
        default=0.0,
        metavar="BETA",
        help="divide the statistic by (multiply-adds a weight)^BETA",
    )
    how.add_argument(
        "--batchnorm-images",
        type=int,
        default=0,
        metavar="K",
        help="re-estimate BatchNorm statistics on K training images",
    )
    how.add_argument(
        "--stages", type=int, default=1, metavar="R", help="prune in R stages, each measured anew (default: 1)"
    )
    how.add_argument(
        "--stage-shape", default=StageShape.POLYNOMIAL, metavar="SHAPE", help=choices(StageShape, StageShape.POLYNOMIAL)
    )
    how.add_argument("--fixed-samples", action="store_true", help="the same samples at every stage, not fresh ones")
    how.add_argument(
        "--probes", type=int, metavar="K", help="random vectors of diagonal-hessian (default: exact on small networks)"
    )
    fisher = parser.add_argument_group("Fisher")
    fisher.add_argument(
        "--num-samples", type=int, default=num_samples, metavar="N", help=f"gradient rows (default: {num_samples})"
    )
    fisher.add_argument("--mini-batch", type=int, default=1, metavar="M", help="samples averaged a row (default: 1)")
    fisher.add_argument("--labels", default=Labels.TRUE, metavar="WHOSE", help=choices(Labels, Labels.TRUE))
    fisher.add_argument(
        "--images", type=int, metavar="K", help="only K training images exist, for everything (default: all)"
    )
    fisher.add_argument("--sample-indices", metavar="FILE", help="text file of training-set indices, one a line")
    fisher.add_argument("--damping", type=float, default=1e-3, metavar="LAMBDA", help="λ > 0 (default: 1e-3)")
    fisher.add_argument(
        "--damping-scale",
        default=DampingScale.ABSOLUTE,
        metavar="SCALE",
        help="what --damping is; " + choices(DampingScale, DampingScale.ABSOLUTE),
    )
    fisher.add_argument(
        "--block-size",
        default="layer",
        metavar="B",
        help="a number, layer or network: slices of layers (default: layer)",
    )
    fisher.add_argument(
        "--gradient-precision",
        default=GradientPrecision.FULL,
        metavar="TYPE",
        help=choices(GradientPrecision, GradientPrecision.FULL),
    )
    fisher.add_argument("--solver", default=solver, metavar="HOW", help=choices(Solver, solver))


def add_store(parser: argparse._ActionsContainer) -> None:
    """``--store``, as :class:`Store` takes it."""
    parser.add_argument(
        "--store",
        metavar="PLACE",
        help="a file or a PostgreSQL URL (default: $WOODFISHER_STORE, else the user's data folder)",
    )


def add_keep(parser: argparse._ActionsContainer) -> None:
    """``--store`` of what keeps nothing unless asked to: the empty text where no place is given, None without the flag."""
    parser.add_argument(
        "--store",
        nargs="?",
        const="",
        metavar="PLACE",
        help="keep the run in this store (without PLACE: in $WOODFISHER_STORE, else the user's own)",
    )


def method_options(options: argparse.Namespace) -> dict[str, object]:
    """The fields of ``PruneOptions`` that these flags gave."""
    return {name: getattr(options, name) for name in METHOD_FIELDS} | {"fresh_samples": not options.fixed_samples}


def network_options(options: argparse.Namespace) -> dict[str, object]:
    """The fields of ``PruneConfig`` that :func:`add_network` gave, and the device."""
    return {name: getattr(options, name) for name in NETWORK_FIELDS} | {"exclude": tuple(options.exclude)}


def memory_budget(gib: float | None) -> int | None:
    """Bytes of a budget given in GiB."""
    if gib is None:
        return None
    if not (math.isfinite(gib) and gib > 0):
        raise InputError(f"memory budget: expected a positive number of GiB, got {gib}.")
    return int(gib * GIB)


def choices(choice: type[Choice], default: Choice | None) -> str:
    """The values with their labels, for a flag's help."""
    text = "; ".join(f"{member.value}: {member.label}" for member in choice)
    return text + (f" (default: {default.value})" if default else "")
