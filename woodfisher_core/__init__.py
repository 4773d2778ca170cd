"""Second-order pruning, exact and fast: WoodFisher (Singh & Alistarh 2020) and its baselines for any ``nn.Module``."""

from woodfisher_core.errors import InputError, MemoryBudgetError, NumericalError, WoodFisherError
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.pruning import PruneResult, prune

__all__ = [
    "InputError",
    "MemoryBudgetError",
    "NumericalError",
    "PruneOptions",
    "PruneResult",
    "WoodFisherError",
    "prune",
]
