"""Weights and data that users bring: checked before anything of them is believed, and kept under names of their contents."""

from woodfisher_core.own.incoming import bring_data, bring_weights
from woodfisher_core.own.keeping import Brought, remove, total_bytes
from woodfisher_core.own.samples import sample_data, sample_weights

__all__ = ["Brought", "bring_data", "bring_weights", "remove", "sample_data", "sample_weights", "total_bytes"]
