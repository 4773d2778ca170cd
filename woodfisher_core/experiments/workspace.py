"""Runs configs. Every intermediate result is cached by exactly what it depends on, so a changed control recomputes only
what it changes: sparsity needs a new mask, damping a new diagonal, only samples and labels need new gradients."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from woodfisher_core import memory
from woodfisher_core.data import Samples, find_root, get_dataset
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments.cache import ByteCache
from woodfisher_core.experiments.config import SHIPPED, PruneConfig
from woodfisher_core.experiments.problem import Problem, load_problem
from woodfisher_core.fisher import Blocks, EmpiricalFisher
from woodfisher_core.gradients import gradient_matrix, gradient_rows
from woodfisher_core.loss_change import QuadraticTerms, quadratic_terms
from woodfisher_core.methods import Need, Outcome, get_method
from woodfisher_core.options import BLOCK_LAYER, Labels, Update
from woodfisher_core.pruning import PruningContext, resolve_device
from woodfisher_core.sampling import choose_samples, held_out_samples, label_uniforms
from woodfisher_core.timing import Stopwatch

Progress = Callable[[str, int, int], None]

DEFAULT_CACHE_BYTES = 2 << 30
# Held-out gradients up to this size are kept for the next look; larger ones are made again in passing.
HELD_OUT_KEPT_BYTES = 1 << 28


@dataclass(frozen=True)
class CurvePoint:
    """One point of accuracy against sparsity: accuracy in percent on the test set, loss in nats."""

    sparsity: float
    accuracy: float
    loss: float
    kept: int


@dataclass(frozen=True)
class LossChange:
    """What the quadratic model predicted and what was measured, in mean nats per sample.

    ``fisher_samples`` are the samples the Fisher was made from (the prediction there is far too small after a joint
    update: fewer samples than weights are interpolated); ``held_out`` other training samples, the headline.
    ``damping_penalty`` ½λ‖δ‖² is no part of either prediction. Predictions are None where no gradients were used.
    """

    predicted_fisher_samples: QuadraticTerms | None
    predicted_held_out: QuadraticTerms | None
    damping_penalty: float | None
    measured_fisher_samples: float
    measured_held_out: float | None
    num_held_out: int


@dataclass(frozen=True)
class RunReport:
    """Everything one run gives; ``seconds`` by phase, of this call alone (cached work counts nothing)."""

    config: PruneConfig
    problem: Problem
    outcome: Outcome
    pruned: Evaluation
    loss_change: LossChange
    seconds: dict[str, float]


class Workspace:
    """Runs configs over one byte-bounded cache; safe to share between threads.

    Args:
        cache_bytes: Bound on everything kept.
        memory_budget: Bytes one run may take; a share of the free memory by default.
    """

    def __init__(self, cache_bytes: int = DEFAULT_CACHE_BYTES, memory_budget: int | None = None):
        self.cache = ByteCache(cache_bytes)
        self.memory_budget = memory_budget

    def problem(self, config: PruneConfig) -> Problem:
        """The loaded network and data."""
        return self.cache.get(("problem", *_source(config)), lambda: load_problem(config), lambda p: p.nbytes)

    def resolve(self, config: PruneConfig) -> PruneConfig:
        """``config`` with the device chosen and the hashes of weights and data filled in; its key then names the result."""
        problem = self.problem(config)
        choose_samples(
            len(problem.dataset.train), config.num_samples * config.mini_batch, config.seed, _indices(config)
        )
        found = {"weights_hash": problem.weights_hash, "data_hash": problem.dataset.hash}
        for name, digest in found.items():
            wanted = getattr(config, name)
            if wanted and wanted != digest:
                raise InputError(
                    f"{name.replace('_', ' ')}: the config was made with {wanted[:12]}…, what is here is {digest[:12]}…. "
                    "Use the same file, or clear the field."
                )
        return config.replace(**found, device=str(problem.device))

    def blocks(self, config: PruneConfig) -> Blocks:
        """The Fisher's blocks."""
        return Blocks.of(self.problem(config).parameters, config.block_size)

    def memory_need(self, config: PruneConfig) -> memory.MemoryNeed:
        """Predicted bytes, before anything runs."""
        return memory.predict(config.num_samples, self.blocks(config), config.solver)

    def samples(self, config: PruneConfig) -> tuple[np.ndarray, np.ndarray]:
        """Training-set indices of (Fisher samples, held-out samples)."""
        total = len(self.problem(config).dataset.train)
        used = choose_samples(total, config.num_samples * config.mini_batch, config.seed, _indices(config))
        return used, held_out_samples(total, used, config.held_out, config.seed)

    def rows(self, config: PruneConfig, watch: Stopwatch, progress: Progress | None = None) -> Tensor:
        """G (N, d). Rows of fewer samples are the first of those of more, so a smaller N is a view."""
        key = ("rows", *_rows_key(config))
        with self.cache.computing:
            kept = self.cache.peek(key)
            if kept is not None and len(kept) >= config.num_samples:
                return kept[: config.num_samples]
            problem = self.problem(config)
            memory.check(
                self.memory_need(config),
                memory.budget(self.memory_budget, problem.device),
                config.num_samples,
                problem.parameters.num_prunable,
            )
            used, _ = self.samples(config)
            with watch("gradients"):
                rows = gradient_matrix(
                    problem.model,
                    problem.parameters,
                    problem.train_samples(used).batches(1024),
                    config.num_samples,
                    mini_batch=config.mini_batch,
                    progress=progress and (lambda done: progress("gradients", done, config.num_samples)),
                    **_label_options(config, 0, len(used)),
                )
            self.cache.put(key, rows, rows.nbytes)
            return rows

    def context(
        self, config: PruneConfig, watch: Stopwatch | None = None, progress: Progress | None = None
    ) -> PruningContext:
        """The method's context, its parts shared through the cache."""
        config = self.resolve(config)
        problem = self.problem(config)
        watch = watch or Stopwatch(problem.device)
        fisher = _fisher_key(config)
        inverse = (*fisher, config.damping)
        needs = get_method(config.method).needs
        keys = {
            "fisher": fisher,
            "inverse": inverse,
            "diagonal": inverse,
            "saliency": (config.method, inverse if Need.INVERSE in needs else fisher if needs else _source(config)),
        }
        solver_bytes = self.memory_need(config).solver

        def size(value: object) -> int:
            if isinstance(value, Tensor):
                return value.nbytes
            # A Fisher keeps its rows alive even when their own entry leaves: counted twice rather than not at all.
            return value.rows.nbytes + solver_bytes if isinstance(value, EmpiricalFisher) else value.nbytes

        def make_fisher() -> EmpiricalFisher:
            rows = self.rows(config, watch, progress)
            with watch("inverse"):
                return EmpiricalFisher(rows, self.blocks(config))

        return PruningContext(
            problem.weights,
            problem.parameters,
            config,
            make_fisher,
            watch,
            store=lambda name, make: self.cache.get((name, *keys[name]), make, size),
        )

    def missing(self, config: PruneConfig) -> tuple[bool, bool]:
        """Whether (gradients, inverse) that ``config`` needs are still to be made; what is kept costs nothing."""
        config = self.resolve(config)
        if not config.uses_gradients:
            return False, False
        rows = self.cache.peek(("rows", *_rows_key(config)))
        fisher = self.cache.peek(("fisher", *_fisher_key(config)))
        made = fisher is not None and fisher.is_prepared(config.solver)
        return rows is None or len(rows) < config.num_samples, config.uses_inverse and not made

    def has_curve(self, config: PruneConfig, sparsities: Sequence[float]) -> bool:
        """Whether :meth:`curve` is kept."""
        return self.cache.peek(_curve_key(self.resolve(config), sparsities)) is not None

    def outcome(self, config: PruneConfig, watch: Stopwatch | None = None, progress: Progress | None = None) -> Outcome:
        """Mask, weights and saliency of one run."""
        config = self.resolve(config)
        return self.cache.get(
            ("outcome", *_result_key(config)),
            lambda: next(self.context(config, watch, progress).run([config.sparsity])),
            lambda outcome: outcome.weights.nbytes + outcome.mask.keep.nbytes,
        )

    def evaluation(self, config: PruneConfig) -> Evaluation:
        """The pruned network on the test set."""
        config = self.resolve(config)
        problem = self.problem(config)
        return self.cache.get(
            ("evaluation", *_result_key(config)),
            lambda: problem.evaluate(self.outcome(config).weights, problem.test),
            lambda result: result.predictions.nbytes,
        )

    def curve(
        self, config: PruneConfig, sparsities: Sequence[float], progress: Progress | None = None
    ) -> tuple[CurvePoint, ...]:
        """Accuracy against sparsity, everything else as in ``config``."""
        config = self.resolve(config)
        problem = self.problem(config)

        def make() -> tuple[CurvePoint, ...]:
            points = []
            outcomes = self.context(config, progress=progress).run(sparsities)
            for sparsity, outcome in zip(sparsities, outcomes, strict=True):
                result = problem.evaluate(outcome.weights, problem.test)
                points.append(CurvePoint(sparsity, result.accuracy, result.loss, outcome.mask.kept))
                if progress:
                    progress("curve", len(points), len(sparsities))
            return tuple(points)

        return self.cache.get(_curve_key(config, sparsities), make, lambda points: 200 * len(points))

    def loss_change(self, config: PruneConfig) -> LossChange:
        """Predicted and measured loss change of one run."""
        config = self.resolve(config)
        return self.cache.get(
            ("loss change", *_source(config), config.key), lambda: self._loss_change(config), lambda _: 200
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
        return RunReport(config, problem, outcome, pruned, change, dict(watch.seconds))

    def _loss_change(self, config: PruneConfig) -> LossChange:
        problem = self.problem(config)
        weights = self.outcome(config).weights
        step = weights - problem.weights
        used, held_out = self.samples(config)

        def measured(indices: np.ndarray) -> float | None:
            if len(indices) == 0:
                return None
            samples = problem.train_samples(indices)
            return problem.evaluate(weights, samples).loss - problem.evaluate(None, samples).loss

        inside = outside = penalty = None
        if config.uses_gradients:
            blocks = self.blocks(config)
            inside = quadratic_terms([self.context(config).fisher().rows], step, blocks, config.mini_batch)
            if len(held_out):
                outside = quadratic_terms(self._held_out_rows(config, len(used), held_out), step, blocks)
            if config.uses_inverse or config.update is Update.JOINT:
                penalty = 0.5 * config.damping * float(step.double().square().sum())
        return LossChange(inside, outside, penalty, measured(used), measured(held_out), len(held_out))

    def _held_out_rows(self, config: PruneConfig, used: int, indices: np.ndarray) -> Iterable[Tensor]:
        """Single-sample gradient rows of the held-out samples."""
        problem = self.problem(config)
        samples: Samples = problem.train_samples(indices)

        def rows() -> Iterator[Tensor]:
            options = _label_options(config, used, len(indices))
            return gradient_rows(problem.model, problem.parameters, samples.batches(1024), **options)

        if len(indices) * problem.weights.nbytes > HELD_OUT_KEPT_BYTES:
            return rows()
        key = ("held-out rows", *_source(config), config.labels, config.seed, used, len(indices), config.sample_indices)
        return self.cache.get(key, lambda: tuple(rows()), lambda parts: sum(part.nbytes for part in parts))


def _source(config: PruneConfig) -> tuple:
    """What the network and its data depend on; a replaced weights file counts as another."""
    if config.weights == SHIPPED:
        stamp = SHIPPED
    else:
        path = Path(config.weights)
        stamp = (str(path), path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else str(path)
    root = find_root(get_dataset(config.dataset), config.data_dir)
    return (config.model, stamp, root, config.exclude, str(resolve_device(config.device)))


def _rows_key(config: PruneConfig) -> tuple:
    """What gradient rows depend on, but for their number."""
    return (*_source(config), config.mini_batch, config.labels, config.seed, config.sample_indices)


def _fisher_key(config: PruneConfig) -> tuple:
    """What a Fisher depends on."""
    return (*_rows_key(config), config.num_samples, config.block_size, config.solver)


def _result_key(config: PruneConfig) -> tuple:
    """What a mask and its weights depend on: settings that the method never reads are left out."""
    read = (config.method, config.sparsity, config.scope, config.update, config.update_scale)
    if not config.uses_gradients:
        return (*_source(config), *read)
    if config.uses_inverse or config.update is Update.JOINT:
        return (*_fisher_key(config), config.damping, *read)
    return (*_fisher_key(config.replace(block_size=BLOCK_LAYER)), *read)


def _curve_key(config: PruneConfig, sparsities: Sequence[float]) -> tuple:
    return ("curve", *_result_key(config.replace(sparsity=0.0)), tuple(sparsities))


def _indices(config: PruneConfig) -> np.ndarray | None:
    return None if config.sample_indices is None else np.array(config.sample_indices, dtype=np.int64)


def _label_options(config: PruneConfig, start: int, count: int) -> dict[str, object]:
    """Sampled labels of the ``count`` samples after the first ``start``."""
    if config.labels is Labels.TRUE:
        return {"labels": config.labels}
    return {"labels": config.labels, "uniforms": label_uniforms(start + count, config.seed)[start:]}
