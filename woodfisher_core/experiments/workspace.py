"""Runs configs. Every intermediate result is cached by exactly what it depends on, so a changed control recomputes only
what it changes: sparsity needs a new mask, damping a new diagonal, only samples and labels need new gradients."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from woodfisher_core import memory
from woodfisher_core.building import build_fisher, kept_in, plan_fisher
from woodfisher_core.data import Samples
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments.cache import ByteCache
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import (
    curve_key,
    digest,
    fisher_key,
    given_indices,
    label_options,
    result_key,
    rows_key,
    source_key,
)
from woodfisher_core.experiments.problem import Problem, load_problem
from woodfisher_core.experiments.results import CurvePoint, LossChange, RunReport
from woodfisher_core.fisher import Blocks, EmpiricalFisher, Fisher, StreamedFisher, StreamedInverse
from woodfisher_core.gradients import gradient_matrix, gradient_rows
from woodfisher_core.loss_change import QuadraticTerms, own_quadratic_terms, quadratic_terms
from woodfisher_core.methods import Need, Outcome, get_method
from woodfisher_core.options import Labels
from woodfisher_core.planning import Plan, Storage
from woodfisher_core.pruning import PruningContext
from woodfisher_core.sampling import choose_samples, held_out_samples
from woodfisher_core.timing import Stopwatch

Progress = Callable[[str, int, int], None]

DEFAULT_CACHE_BYTES = 2 << 30
RESULT_BYTES = 64 << 20
# Held-out gradients up to this size are kept for the next look; larger ones are made again in passing.
HELD_OUT_KEPT_BYTES = 1 << 28


class Workspace:
    """Runs configs over one byte-bounded cache; safe to share between threads.

    Args:
        cache_bytes: Bound on everything kept.
        memory_budget: Bytes one run may take; a share of the free memory by default.
        storage: Where gradients are kept between their making and their use; the fastest that fits by default.
        scratch: Folder for a scratch file; the system's by default.
        say: Told, before gradients are made, where they will be kept and what that takes.
    """

    def __init__(
        self,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        memory_budget: int | None = None,
        storage: Storage | None = None,
        scratch: str | Path | None = None,
        say: Callable[[str], None] | None = None,
    ):
        self.cache = ByteCache(cache_bytes)
        # Small final numbers, apart: they must outlive the gigabytes they came from.
        self.results = ByteCache(RESULT_BYTES)
        self.memory_budget, self.storage, self.scratch = memory_budget, storage, scratch
        self._say = say
        # The streamed Fisher made last: one scratch file at most.
        self._streamed: tuple[tuple, StreamedFisher] | None = None

    def problem(self, config: PruneConfig) -> Problem:
        """The loaded network and data."""
        return self.cache.get(("problem", *source_key(config)), lambda: load_problem(config), lambda p: p.nbytes)

    def resolve(self, config: PruneConfig) -> PruneConfig:
        """``config`` with the device chosen and the hashes of weights and data filled in; its key then names the result."""
        problem = self.problem(config)
        count, total = config.num_samples * config.mini_batch, len(problem.dataset.train)
        if count > total or config.sample_indices is not None:  # what the seed chooses is fine where there are enough
            choose_samples(total, count, config.seed, given_indices(config))
        found = {"weights_hash": problem.weights_hash, "data_hash": problem.dataset.hash}
        for name, here in found.items():
            wanted = getattr(config, name)
            if wanted and wanted != here:
                raise InputError(
                    f"{name.replace('_', ' ')}: the config was made with {wanted[:12]}…, what is here is {here[:12]}…. "
                    "Use the same file, or clear the field."
                )
        return config.replace(**found, device=str(problem.device))

    def blocks(self, config: PruneConfig) -> Blocks:
        """The Fisher's blocks."""
        return Blocks.of(self.problem(config).parameters, config.block_size)

    def memory_need(self, config: PruneConfig) -> memory.MemoryNeed:
        """Predicted bytes, before anything runs."""
        problem = self.problem(config)
        return memory.predict(
            config.num_samples,
            self.blocks(config),
            config.solver,
            kept_in(problem.model, problem.parameters, config).itemsize,
        )

    def samples(self, config: PruneConfig) -> tuple[np.ndarray, np.ndarray]:
        """Training-set indices of (Fisher samples, held-out samples)."""
        total = len(self.problem(config).dataset.train)
        used = choose_samples(total, config.num_samples * config.mini_batch, config.seed, given_indices(config))
        return used, held_out_samples(total, used, config.held_out, config.seed)

    def rows(self, config: PruneConfig, watch: Stopwatch, progress: Progress | None = None) -> Tensor:
        """G (N, d). Rows of fewer samples are the first of those of more, so a smaller N is a view."""
        with self.cache.computing:
            kept = self._kept_rows(config)
            if kept is None:
                self._plan(config, Storage.MEMORY)
                kept = self._make_rows(config, watch, progress)
            return kept

    def mean_curvature(self, config: PruneConfig) -> float:
        """Mean of the undamped Fisher's diagonal over the prunable weights."""
        config = self.resolve(config)
        key = ("curvature", *fisher_key(config))
        return self.cache.get(key, lambda: float(self.context(config).fisher().diagonal.mean()), lambda _: 8)

    def _kept_rows(self, config: PruneConfig) -> Tensor | None:
        """The first N kept rows, where there are as many."""
        kept = self.cache.peek(("rows", *rows_key(config)))
        return kept[: config.num_samples] if kept is not None and len(kept) >= config.num_samples else None

    def _make_rows(self, config: PruneConfig, watch: Stopwatch, progress: Progress | None) -> Tensor:
        problem = self.problem(config)
        used, _ = self.samples(config)
        with watch("gradients"):
            rows = gradient_matrix(
                problem.model,
                problem.parameters,
                problem.train_samples(used).batches(1024),
                config.num_samples,
                dtype=kept_in(problem.model, problem.parameters, config),
                mini_batch=config.mini_batch,
                progress=progress and (lambda done: progress("gradients", done, config.num_samples)),
                **label_options(config, 0, len(used)),
            )
        self.cache.put(("rows", *rows_key(config)), rows, rows.nbytes)
        return rows

    def _plan(self, config: PruneConfig, storage: Storage | None, timed: bool = False) -> Plan:
        """Where the gradients of ``config`` will be kept."""
        problem = self.problem(config)
        used, _ = self.samples(config)
        samples = problem.train_samples(used[: max(8, config.mini_batch)])
        return plan_fisher(
            problem.model,
            problem.parameters,
            config,
            (samples.inputs, samples.targets),
            allowed=memory.budget(self.memory_budget, problem.device),
            storage=storage,
            scratch=self.scratch,
            timed=timed,
        )

    def context(
        self, config: PruneConfig, watch: Stopwatch | None = None, progress: Progress | None = None
    ) -> PruningContext:
        """The method's context, its parts shared through the cache."""
        config = self.resolve(config)
        problem = self.problem(config)
        watch = watch or Stopwatch(problem.device)
        fisher = fisher_key(config)
        inverse = (*fisher, config.damping, config.damping_scale)
        needs = get_method(config.method).needs
        keys = {
            "fisher": fisher,
            "damping": inverse,
            "inverse": inverse,
            "diagonal": inverse,
            "saliency": (config.method, inverse if Need.INVERSE in needs else fisher if needs else source_key(config)),
        }
        solver_bytes = self.memory_need(config).solver

        def size(value: object) -> int:
            if isinstance(value, float):
                return 8
            if isinstance(value, Tensor):
                return value.nbytes
            # A Fisher keeps its rows alive even when their own entry leaves: counted twice rather than not at all. A streamed
            # one has a place of its own: its scratch file must not outlive its use.
            if isinstance(value, (StreamedFisher, StreamedInverse)):
                return self.cache.max_bytes + 1
            return value.rows.nbytes + solver_bytes if isinstance(value, EmpiricalFisher) else value.nbytes

        def make_fisher() -> Fisher:
            if self._streamed is not None and self._streamed[0] == fisher:
                return self._streamed[1]
            kept = self._kept_rows(config)
            if kept is not None:
                with watch("inverse"):
                    return EmpiricalFisher(kept, self.blocks(config))
            with watch("plan"):
                plan = self._plan(config, self.storage, timed=self._say is not None)
            if self._say is not None:
                self._say(plan.describe())
            if plan.storage is Storage.MEMORY:
                rows = self._make_rows(config, watch, progress)
                with watch("inverse"):
                    return EmpiricalFisher(rows, self.blocks(config))
            self._streamed = None  # its scratch file goes before the next one comes
            made = build_fisher(
                problem.model,
                problem.parameters,
                config,
                plan,
                problem.train_samples(self.samples(config)[0]).batches(1024),
                scratch=self.scratch,
                progress=progress and (lambda done: progress("gradients", done, config.num_samples)),
                watch=watch,
            )
            self._streamed = (fisher, made)
            return made

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
            lambda: next(self.context(config, watch, progress).run([config.sparsity])),
            lambda outcome: outcome.weights.nbytes + outcome.mask.keep.nbytes,
        )

    def evaluation(self, config: PruneConfig) -> Evaluation:
        """The pruned network on the test set."""
        config = self.resolve(config)
        problem = self.problem(config)
        return self.cache.get(
            ("evaluation", *result_key(config)),
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
            if config.uses_gradients:
                rows = self._held_out_rows(config, len(used), held_out)
                predicted = quadratic_terms(rows, self._step(config), self.blocks(config))
            return predicted, self._measured(config, held_out)

        return self.cache.get(("held-out change", *source_key(config), config.key), make, lambda _: 200)

    def _loss_change(self, config: PruneConfig) -> LossChange:
        step = self._step(config)
        used, held_out = self.samples(config)
        inside = penalty = None
        if config.uses_gradients:
            inside = own_quadratic_terms(self.context(config).fisher(), step, config.mini_batch)
        if config.uses_damping:
            penalty = 0.5 * self.damping(config) * float(step.double().square().sum())
        predicted, measured = self.held_out_change(config)
        return LossChange(inside, predicted, penalty, self._measured(config, used), measured, len(held_out))

    def _step(self, config: PruneConfig) -> Tensor:
        """δ (d,), final less original weights."""
        return self.outcome(config).weights - self.problem(config).weights

    def _measured(self, config: PruneConfig, indices: np.ndarray) -> float:
        """Mean loss on these training samples after pruning less before, in nats."""
        problem = self.problem(config)
        samples = problem.train_samples(indices)
        key = ("dense loss", *source_key(config), digest(indices))
        before = self.cache.get(key, lambda: problem.evaluate(None, samples).loss, lambda _: 100)
        return problem.evaluate(self.outcome(config).weights, samples).loss - before

    def _held_out_rows(self, config: PruneConfig, used: int, indices: np.ndarray) -> Iterable[Tensor]:
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
