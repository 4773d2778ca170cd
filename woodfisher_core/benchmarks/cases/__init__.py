"""The speed cases by name; a new one is a function of :class:`Bench` to :class:`CaseResult` and one line here.

A case's first docstring line is its help text.
"""

from collections.abc import Callable

from woodfisher_core.benchmarks.bench import Bench
from woodfisher_core.benchmarks.cases import curves, gradients, inverse, large, libraries, slopes
from woodfisher_core.benchmarks.result import CaseResult

Case = Callable[[Bench], CaseResult]

CASES: dict[str, Case] = {
    "parity": inverse.parity,
    "paper-blocks": inverse.paper_blocks,
    "whole-layer": inverse.whole_layer,
    "mfac": inverse.mfac,
    "gradients-mlpnet": gradients.mlpnet,
    "gradients-cnn": gradients.cnn,
    "gradients-resnet20": gradients.resnet20,
    "curvlinops": libraries.products_mlpnet,
    "curvlinops-resnet20": libraries.products_resnet20,
    "curvlinops-inverse": libraries.inverse,
    "slopes": slopes.slopes,
    "joint-curve": curves.joint_curve,
    "joint-curve-resnet20": curves.joint_curve_resnet20,
    "dual": large.dual,
    "spectral": large.spectral,
    "plane": large.plane,
}

# Those that share the 1.1 GB of ResNet-20's gradient rows; side by side above, so that the rows are made once.
LARGE = frozenset({"joint-curve-resnet20", "dual", "spectral", "plane"})

__all__ = ["CASES", "LARGE", "Case"]
