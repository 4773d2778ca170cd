"""Runs configs. Every intermediate result is cached by exactly what it depends on, so a changed control recomputes only
what it changes: sparsity needs a new mask, damping a new diagonal, only samples and labels need new gradients."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from woodfisher_core.context import PruningContext
from woodfisher_core.data import Samples
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import (
    curve_key,
    digest,
    fisher_key,
    label_options,
    result_key,
    rows_key,
    source_key,
)
from woodfisher_core.experiments.materials import Materials, Progress
from woodfisher_core.experiments.results import CurvePoint, LossChange, RunReport
from woodfisher_core.gradients import gradient_rows
from woodfisher_core.loss_change import QuadraticTerms, own_quadratic_terms, quadratic_terms
from woodfisher_core.methods import Outcome, get_method
from woodfisher_core.options import Labels
from woodfisher_core.staged import Start, run_stages
from woodfisher_core.timing import Stopwatch

# Held-out gradients up to this size are kept for the next look; larger ones are made again in passing.
HELD_OUT_KEPT_BYTES = 1 << 28


class Workspace(Materials):
    """Runs configs over one byte-bounded cache; safe to share between threads."""

    def missing(self, config: PruneConfig) -> tuple[bool, bool]:
        """Whether (gradients, inverse) that ``config`` needs are still to be made; what is kept costs nothing."""
        config = self.resolve(config)
        if not config.uses_gradients:
            return False, False
        rows = self.cache.peek(("rows", *rows_key(config)))
        fisher = self.cache.peek(("fisher", *fisher_key(config)))
        made = fisher is not None and fisher.is_prepared(config.solver)
        return rows is None or len(rows) < config.num_samples, config.uses_inverse and not made

    def has_curve(self, config: PruneConfig, sparsities: Sequence[float]) -> bool:
        """Whether :meth:`curve` is kept."""
        return self.cache.peek(curve_key(self.resolve(config), sparsities)) is not None

    def has_evaluation(self, config: PruneConfig) -> bool:
        """Whether :meth:`evaluation` is kept."""
        return self.cache.peek(("evaluation", *result_key(self.resolve(config)))) is not None

    def damping(self, config: PruneConfig) -> float | None:
        """The λ in force, in the units of F; None where the method and its update have no use for one."""
        return self.context(config).damping if config.uses_damping else None

    def outcome(self, config: PruneConfig, watch: Stopwatch | None = None, progress: Progress | None = None) -> Outcome:
        """Mask, weights and saliency of one run."""
        config = self.resolve(config)
        return self.cache.get(
            ("outcome", *result_key(config)),
            lambda: self._run(config, watch, progress),
            lambda outcome: outcome.nbytes,
        )

    def _run(self, config: PruneConfig, watch: Stopwatch | None, progress: Progress | None) -> Outcome:
        """All stages of one run; the first one's parts are shared through the cache."""
        watch = watch or Stopwatch(self.problem(config).device)

        def context_at(start: Start, stage: int) -> PruningContext:
            if stage == 0:
                return self.context(config, watch, progress)
            return self.later_context(config, start, stage, watch)

        told = (lambda done, total: progress("stages", done, total)) if progress and config.stages > 1 else None
        return run_stages(config, Start(self.problem(config).weights), context_at, told)

    def evaluation(self, config: PruneConfig, images: int | None = None) -> Evaluation:
        """The pruned network on the test set, or on ``images`` of it, always the same: known long before all of them."""
        config = self.resolve(config)
        problem = self.problem(config)
        samples = problem.test if images is None else problem.some_tests(images)
        part = () if images is None else (images,)
        return self.cache.get(
            ("evaluation", *result_key(config), *part),
            lambda: self._evaluated(config, self.outcome(config), samples),
            lambda result: result.predictions.nbytes,
        )

    def outcomes(
        self,
        config: PruneConfig,
        sparsities: Sequence[float],
        watch: Stopwatch | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Outcome]:
        """Mask, weights and saliency at each sparsity, everything else as in ``config``; what they share is made once.

        In several stages every sparsity has stages of its own. ``config`` must not name a pattern.
        """
        if config.pattern is not None:
            raise InputError(
                f"curve: the pattern {config.pattern} has one sparsity, {config.sparsity:g}. Leave it out."
            )
        if config.stages > 1:
            return (self.outcome(config.replace(sparsity=sparsity), watch) for sparsity in sparsities)
        return self.context(config, watch, progress).run(sparsities)

    def reached(self, config: PruneConfig, sparsities: Sequence[float], watch: Stopwatch | None = None) -> list[float]:
        """Those of ``sparsities`` that the config's method can give on its network; what that takes is charged to ``watch``."""
        most = get_method(config.method).reach(self.context(config, watch))
        return [sparsity for sparsity in sparsities if sparsity <= most]

    def curve(
        self, config: PruneConfig, sparsities: Sequence[float], progress: Progress | None = None
    ) -> tuple[CurvePoint, ...]:
        """Accuracy against sparsity as far as the method reaches, everything else as in ``config``, which has no pattern."""
        config = self.resolve(config)
        if config.pattern is not None:
            raise InputError(
                f"curve: the pattern {config.pattern} has one sparsity, {config.sparsity:g}. Leave it out."
            )
        problem = self.problem(config)

        def make() -> tuple[CurvePoint, ...]:
            points = []
            reached = self.reached(config, sparsities)
            outcomes = self.outcomes(config, reached, progress=progress)
            for sparsity, outcome in zip(reached, outcomes, strict=True):
                result = self._evaluated(config, outcome, problem.test)
                points.append(
                    CurvePoint(sparsity, outcome.mask.sparsity, result.accuracy, result.loss, outcome.mask.kept)
                )
                if progress:
                    progress("curve", len(points), len(reached))
            return tuple(points)

        return self.cache.get(curve_key(config, sparsities), make, lambda points: 200 * len(points))

    def loss_change(self, config: PruneConfig) -> LossChange:
        """Predicted and measured loss change of one run."""
        config = self.resolve(config)
        return self.cache.get(
            ("loss change", *source_key(config), config.key), lambda: self._loss_change(config), lambda _: 200
        )

    def report(self, config: PruneConfig, progress: Progress | None = None) -> RunReport:
        """One run from start to end, timed."""
        config = self.resolve(config)
        problem = self.problem(config)
        watch = Stopwatch(problem.device)
        outcome = self.outcome(config, watch, progress)
        with watch("evaluate"):
            pruned = self.evaluation(config)
        with watch("loss change"):
            change = self.loss_change(config)
        return RunReport(config, problem, outcome, pruned, change, self.damping(config), dict(watch.seconds))

    def held_out_change(self, config: PruneConfig) -> tuple[QuadraticTerms | None, float | None]:
        """(predicted, measured) loss change on the held-out samples alone; None where there is nothing to say it from."""
        config = self.resolve(config)

        def make() -> tuple[QuadraticTerms | None, float | None]:
            used, held_out = self.samples(config)
            if len(held_out) == 0:
                return None, None
            predicted = None
            if config.uses_gradients and config.stages == 1:
                rows = self.held_out_rows(config, len(used), held_out)
                predicted = quadratic_terms(rows, self._step(config), self.blocks(config))
            return predicted, self._measured(config, held_out)

        return self.cache.get(("held-out change", *source_key(config), config.key), make, lambda _: 200)

    def _loss_change(self, config: PruneConfig) -> LossChange:
        step = self._step(config)
        used, held_out = self.samples(config)
        inside = penalty = None
        if config.uses_gradients and config.stages == 1:
            inside = own_quadratic_terms(self.context(config).fisher(), step, config.mini_batch)
        if config.uses_damping:
            penalty = 0.5 * self.damping(config) * float(step.double().square().sum())
        predicted, measured = self.held_out_change(config)
        return LossChange(inside, predicted, penalty, self._measured(config, used), measured, len(held_out))

    def _evaluated(self, config: PruneConfig, outcome: Outcome, samples: Samples) -> Evaluation:
        return self.problem(config).evaluate(outcome.weights, samples, outcome.tensors)

    def _step(self, config: PruneConfig) -> Tensor:
        """δ (d,), final less original weights."""
        return self.outcome(config).weights - self.problem(config).weights

    def _measured(self, config: PruneConfig, indices: np.ndarray) -> float:
        """Mean loss on these training samples after pruning less before, in nats."""
        problem = self.problem(config)
        samples = problem.train_samples(indices)
        key = ("dense loss", *source_key(config), digest(indices))
        before = self.cache.get(key, lambda: problem.evaluate(None, samples).loss, lambda _: 100)
        return self._evaluated(config, self.outcome(config), samples).loss - before

    def held_out_rows(self, config: PruneConfig, used: int, indices: np.ndarray) -> Iterable[Tensor]:
        """Single-sample gradient rows of the held-out samples."""
        problem = self.problem(config)
        samples: Samples = problem.train_samples(indices)

        def rows() -> Iterator[Tensor]:
            options = label_options(config, used, len(indices))
            return gradient_rows(problem.model, problem.parameters, samples.batches(1024), **options)

        if len(indices) * problem.weights.nbytes > HELD_OUT_KEPT_BYTES:
            return rows()
        # The far end of the order is held out, mostly the same whatever the Fisher's samples; drawn labels come after theirs.
        drawn = None if config.labels is Labels.TRUE else (config.seed, used)
        key = ("held-out rows", *source_key(config), digest(indices), drawn)
        return self.cache.get(key, lambda: tuple(rows()), lambda parts: sum(part.nbytes for part in parts))
