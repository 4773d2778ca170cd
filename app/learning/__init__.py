"""The derivation in steps, each with the numbers of one network: pure text and figures, for the page and the notebook."""

from app.learning import blocks, fisher, many, one_weight, question, recap, taylor, woodbury
from app.learning.step import Choice, Shown, Step, Try

STEPS: tuple[Step, ...] = tuple(
    module.STEP for module in (question, taylor, one_weight, fisher, woodbury, blocks, many, recap)
)

__all__ = ["STEPS", "Choice", "Shown", "Step", "Try"]
