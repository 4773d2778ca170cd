"""Second-order pruning, exact and fast: WoodFisher (Singh & Alistarh 2020) and its baselines for any ``nn.Module``."""

from woodfisher_core.errors import InputError, MemoryBudgetError, NumericalError, WoodFisherError
from woodfisher_core.pruning import PruneOptions, PruneResult, prune

__all__ = [
    "InputError",
    "MemoryBudgetError",
    "NumericalError",
    "PruneOptions",
    "PruneResult",
    "WoodFisherError",
    "prune",
]
