"""Views that make a point: named settings of the controls, as links."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# What every preset begins from, so that it shows the same whatever was set before.
START = {
    "model": "digits-mlp",
    "method": "woodfisher",
    "sparsity": "0.8",
    "scope": "global",
    "update": "joint",
    "scale": "1",
    "pattern": "none",
    "budget": "weights",
    "flops-power": "0",
    "stages": "1",
    "images": "all",
    "samples": "1000",
    "damping-scale": "absolute",
    "damping": "1e-3",
    "block": "layer",
    "labels": "true",
    "seed": "0",
    "tests": "all",
}


@dataclass(frozen=True)
class Preset:
    """``page`` is its file's name without ``.py``, ``query`` what differs from :data:`START`, ``point`` what there is to see."""

    name: str
    page: str
    query: Mapping[str, str | list[str]] = field(default_factory=dict)
    point: str = ""

    @property
    def link(self) -> dict[str, str | list[str]]:
        """All parameters."""
        return {**START, **self.query}


PRESETS = (
    Preset(
        "Paper settings",
        "explore",
        {"update": "independent", "damping": "1e-5"},
        "One threshold, the independent update, λ = 1e-5, as in most published runs: far ahead of magnitude.",
    ),
    Preset(
        "Magnitude is blind",
        "explore",
        {"method": "magnitude", "update": "none", "with": ["magnitude", "woodfisher"]},
        "Small is not the same as unimportant: as many weights, a few of them others, leave clearly more accuracy, and "
        "WoodFisher moves the survivors besides.",
    ),
    Preset(
        "Too little damping",
        "explore",
        {"sparsity": "0.9", "damping": "1e-6"},
        "The update trusts what a thousand images cannot tell: it ends below magnitude.",
    ),
    Preset(
        "Too much damping",
        "explore",
        {"damping": "1e-1"},
        "The curvature drowns: the ranking nears magnitude's, the survivors move less, and much of the gain is gone.",
    ),
    Preset(
        "Too few samples",
        "explore",
        {"samples": "10"},
        "Ten images see ten directions of thousands: most of what the Fisher could give is gone.",
    ),
    Preset(
        "Diagonal only",
        "explore",
        {"block": "1"},
        "Blocks of one weight know no interactions: here that is no better than not looking at the data at all.",
    ),
    Preset(
        "Independent at 90 %",
        "explore",
        {"sparsity": "0.9", "update": "independent"},
        "Single corrections added up: each believes the others are still there.",
    ),
    Preset(
        "Joint at 90 %",
        "explore",
        {"sparsity": "0.9"},
        "The same mask, all removed weights made up for at once: more is left than with the independent update, if not beyond "
        "the noise of this one seed's test images; over five seeds it is plain.",
    ),
    Preset(
        "A layer collapses",
        "explore",
        {"sparsity": "0.9", "scope": "layer"},
        "The same share from every layer starves the small last one: accuracy falls to guessing.",
    ),
    Preset(
        "No labels needed",
        "explore",
        {"labels": "sampled", "update": "independent"},
        "Labels drawn from the network's own predictions serve as well as the true ones.",
    ),
)
