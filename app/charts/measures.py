"""What a plane can vary and what can be drawn over it: names, units, and what the colours mean."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """What a plane varies: its column, its title with its unit, the letter before a value, what is asked of it, and how its
    values lie: ``spacing`` is plotly's type of axis where they are drawn to scale, log, linear, or category for names.
    """

    column: str
    title: str
    letter: str
    question: str
    spacing: str = "log"

    def write(self, value: object) -> str:
        """``1,000``, ``0.25``, or a name as it is."""
        if isinstance(value, float):
            return f"{value:g}"
        return f"{value:,}" if isinstance(value, int) else f"{int(value):,}" if str(value).isdigit() else str(value)

    def name(self, value: object) -> str:
        """``N = 1,000``."""
        return f"{self.letter} = {self.write(value)}"


AXES = {
    "samples": Axis("num_samples", "Fisher samples N (images)", "N", "What do more Fisher samples bring?"),
    "block": Axis("block_size", "block size B (weights)", "B", "What do larger blocks bring?", "category"),
    "mini-batch": Axis("mini_batch", "mini-batch m (images a gradient row)", "m", "What do larger mini-batches bring?"),
    "update scale": Axis(
        "update_scale",
        "update scale s (share of the step taken)",
        "s",
        "How much of the step should be taken?",
        "linear",
    ),
    "images": Axis("images", "training images there are k (images)", "k", "What do more training images bring?"),
}


@dataclass(frozen=True)
class Measure:
    """One column of the plane: how it is called, its unit, how it is written, and what its colours mean.

    ``scale`` fixes the colours from its first value to its second; without one they lie around magnitude's value, at
    least ``least`` wide on either side. With ``nines`` they show how near to 1 a value comes, from 0.9 to 0.99 as far as to
    0.999. ``paired`` ones compare pairs of seeds, so that there is nothing to compare for one.
    """

    column: str
    question: str
    unit: str
    form: str
    scale: tuple[float, float] | None = None
    least: float = 0.0
    paired: bool = False
    nines: bool = False

    @property
    def spread(self) -> str:
        """The column of its standard deviation over the seeds."""
        return f"{self.column}_spread"


MEASURES = {
    "accuracy": Measure("accuracy", "Where does WoodFisher keep its accuracy?", "test accuracy (%)", ".1f", least=1.0),
    "overlap": Measure(
        "overlap",
        "Where does it keep what your setting keeps?",
        "kept weights shared (Jaccard)",
        ".2f",
        (0.0, 1.0),
    ),
    "rank correlation": Measure(
        "rank_correlation",
        "Where does it rank as your setting does?",
        "rank correlation (Spearman)",
        ".4f",
        (0.0, 1.0),
        nines=True,
    ),
    "predicted loss": Measure(
        "predicted",
        "What loss does the quadratic model foresee?",
        "predicted loss change (nats)",
        "#.3g",
        least=0.01,
    ),
    "measured loss": Measure(
        "measured", "What loss does it really cost?", "measured loss change (nats)", "#.3g", least=0.01
    ),
    "overlap between seeds": Measure(
        "overlap_between",
        "Would other images keep the same weights?",
        "kept weights two seeds share (Jaccard)",
        ".3f",
        (0.0, 1.0),
        paired=True,
    ),
    "ranks between seeds": Measure(
        "rank_between",
        "Would other images rank the same way?",
        "rank correlation of two seeds (Spearman)",
        ".4f",
        (0.0, 1.0),
        paired=True,
        nines=True,
    ),
}


@dataclass(frozen=True)
class Levels:
    """A measure's value for magnitude pruning at the same sparsity, and for the dense network."""

    magnitude: float
    dense: float

    def reach(self, measure: Measure) -> float:
        """How far the colours go to either side of magnitude."""
        return max(abs(self.dense - self.magnitude), measure.least)
