"""Structured pruning: whole channels go by the saliency of everything that vanishes with them, and are really removed."""

from woodfisher_core.structured.channels import ChannelGroup, all_parameters
from woodfisher_core.structured.options import Criterion, Per, StructuredOptions
from woodfisher_core.structured.pruning import (
    EXAMPLES,
    StructuredResult,
    one_block,
    prune_channels,
    saliency_of,
    structured_results,
)
from woodfisher_core.structured.saliency import Undamped, fisher_saliency, magnitude_saliency, undamped
from woodfisher_core.structured.selection import Selection, reachable, select_groups
from woodfisher_core.structured.shrink import Sizes, shrunk, sizes
from woodfisher_core.structured.survey import Channels, channels_if_any, find_channels

__all__ = [
    "EXAMPLES",
    "ChannelGroup",
    "Channels",
    "Criterion",
    "Per",
    "Selection",
    "Sizes",
    "StructuredOptions",
    "StructuredResult",
    "Undamped",
    "all_parameters",
    "channels_if_any",
    "find_channels",
    "fisher_saliency",
    "magnitude_saliency",
    "one_block",
    "prune_channels",
    "reachable",
    "saliency_of",
    "select_groups",
    "shrunk",
    "sizes",
    "structured_results",
    "undamped",
]
