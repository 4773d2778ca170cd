"""The inverse empirical Fisher as a linear operator: one interface over dual, primal and spectral solvers."""

from woodfisher_core.fisher.blocks import Blocks
from woodfisher_core.fisher.groups import Source
from woodfisher_core.fisher.operator import EmpiricalFisher, InverseFisher
from woodfisher_core.fisher.recursion import recursive_inverse
from woodfisher_core.fisher.streamed import Span, StreamedFisher, StreamedInverse, cut

# In memory or read in parts: the same interface.
Fisher = EmpiricalFisher | StreamedFisher
Inverse = InverseFisher | StreamedInverse

__all__ = [
    "Blocks",
    "EmpiricalFisher",
    "Fisher",
    "Inverse",
    "InverseFisher",
    "Source",
    "Span",
    "StreamedFisher",
    "StreamedInverse",
    "cut",
    "recursive_inverse",
]
