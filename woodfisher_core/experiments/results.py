"""What runs give."""

from dataclasses import dataclass

from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.problem import Problem
from woodfisher_core.loss_change import QuadraticTerms
from woodfisher_core.methods import Outcome


@dataclass(frozen=True)
class CurvePoint:
    """One point of accuracy against sparsity: accuracy in percent on the test set, loss in nats.

    ``sparsity`` is what was asked for, in the budget's unit; ``removed`` the fraction of the prunable weights that went.
    """

    sparsity: float
    removed: float
    accuracy: float
    loss: float
    kept: int


@dataclass(frozen=True)
class LossChange:
    """What the quadratic model predicted and what was measured, in mean nats per sample.

    ``fisher_samples`` are the samples the Fisher was made from (the prediction there is far too small after a joint
    update: fewer samples than weights are interpolated); ``held_out`` other training samples, the headline.
    ``damping_penalty`` ½λ‖δ‖², with the λ in force, is no part of either prediction. Predictions are None where no
    gradients were used.
    """

    predicted_fisher_samples: QuadraticTerms | None
    predicted_held_out: QuadraticTerms | None
    damping_penalty: float | None
    measured_fisher_samples: float
    measured_held_out: float | None
    num_held_out: int


@dataclass(frozen=True)
class RunReport:
    """Everything one run gives; ``seconds`` by phase, of this call alone (cached work counts nothing).

    ``damping`` is the λ in force, in the units of F (None where the run has no use for one).
    """

    config: PruneConfig
    problem: Problem
    outcome: Outcome
    pruned: Evaluation
    loss_change: LossChange
    damping: float | None
    seconds: dict[str, float]
