"""The inverse empirical Fisher as a linear operator: one interface over dual, primal and spectral solvers."""

from woodfisher_core.fisher.blocks import Blocks
from woodfisher_core.fisher.groups import Source
from woodfisher_core.fisher.operator import EmpiricalFisher, InverseFisher
from woodfisher_core.fisher.recursion import recursive_inverse
from woodfisher_core.fisher.streamed import Span, StreamedFisher, StreamedInverse, cut

__all__ = [
    "Blocks",
    "EmpiricalFisher",
    "InverseFisher",
    "Source",
    "Span",
    "StreamedFisher",
    "StreamedInverse",
    "cut",
    "recursive_inverse",
]
