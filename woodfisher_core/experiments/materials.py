"""What runs are made of, each part cached by exactly what it depends on: network and data, samples, gradients, contexts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from woodfisher_core import memory
from woodfisher_core.building import build_fisher, kept_in, plan_fisher
from woodfisher_core.context import Batches, PruningContext, Source
from woodfisher_core.errors import InputError
from woodfisher_core.experiments.cache import ByteCache
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.keys import (
    context_keys,
    curvature_key,
    fisher_key,
    given_indices,
    label_options,
    rows_key,
    source_key,
)
from woodfisher_core.experiments.problem import Problem, load_problem
from woodfisher_core.experiments.turns import Turns
from woodfisher_core.fisher import Blocks, EmpiricalFisher, Fisher, StreamedFisher, StreamedInverse
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.planning import Plan, Storage
from woodfisher_core.sampling import choose_samples, held_out_samples
from woodfisher_core.staged import Start
from woodfisher_core.timing import Stopwatch

Progress = Callable[[str, int, int], None]

DEFAULT_CACHE_BYTES = 2 << 30
RESULT_BYTES = 64 << 20


class Materials:
    """Networks, samples, gradients and contexts over one byte-bounded cache; safe to share between threads.

    Args:
        cache_bytes: Bound on everything kept.
        memory_budget: Bytes one run may take; a share of the free memory by default.
        storage: Where gradients are kept between their making and their use; the fastest that fits by default.
        scratch: Folder for a scratch file; the system's by default.
        say: Told, before gradients are made, where they will be kept and what that takes.
        computing: The turns of another workspace on the same networks, which one thread at a time may run.
    """

    def __init__(
        self,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        memory_budget: int | None = None,
        storage: Storage | None = None,
        scratch: str | Path | None = None,
        say: Callable[[str], None] | None = None,
        computing: Turns | None = None,
    ):
        self.cache = ByteCache(cache_bytes, computing)
        # Small final numbers, apart: they must outlive the gigabytes they came from.
        self.results = ByteCache(RESULT_BYTES, self.cache.computing)
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
        if config.batchnorm_images > total:
            raise InputError(
                f"BatchNorm images: expected at most {total:,} (the training set), got {config.batchnorm_images:,}. "
                "Lower --batchnorm-images."
            )
        found = {"weights_hash": problem.weights_hash, "data_hash": problem.dataset.hash}
        for name, here in found.items():
            wanted = getattr(config, name)
            if wanted and wanted != here:
                raise InputError(
                    f"{name.replace('_', ' ')}: the config was made with {wanted[:12]}…, what is here is {here[:12]}…. "
                    "Use the same file, or clear the field."
                )
        return config.replace(**found, device=str(problem.device))

    def forget(self) -> None:
        """Lets go of everything kept but for networks and data, so that what comes next is made anew."""
        self._streamed = None
        for cache in (self.cache, self.results):
            cache.drop(lambda key: key[0] != "problem")

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
        used = self._stage_samples(config, 0)
        stages = range(config.stages if config.fresh_samples else 1)
        seen = [self._stage_samples(config, stage) for stage in stages]
        if config.repair_batchnorm:
            seen.append(choose_samples(total, config.repair_batchnorm, config.seed, None, config.images))
        if config.batchnorm_images:
            seen.append(self._picked(config, config.batchnorm_images, stages[-1]))
        return used, held_out_samples(total, np.concatenate(seen), config.held_out, config.seed)

    def _stage_samples(self, config: PruneConfig, stage: int) -> np.ndarray:
        total, count = len(self.problem(config).dataset.train), config.num_samples * config.mini_batch
        return choose_samples(total, count, config.seed, given_indices(config), config.images, stage)

    def _picked(self, config: PruneConfig, count: int, stage: int) -> np.ndarray:
        """Any ``count`` training samples of a stage, of those its gradients are made from where there are as many."""
        given = given_indices(config)
        if given is not None:
            if count > len(given):
                raise InputError(
                    f"BatchNorm images: expected at most the {len(given):,} sample indices given, got {count:,}. Lower them."
                )
            return given[:count]
        return choose_samples(len(self.problem(config).dataset.train), count, config.seed, None, config.images, stage)

    def rows(self, config: PruneConfig, watch: Stopwatch, progress: Progress | None = None) -> Tensor:
        """G (N, d). Rows of fewer samples are the first of those of more, so a smaller N is a view."""
        with self.cache.computing:
            kept = self._kept_rows(config)
            if kept is None:
                self._plan(config, Storage.MEMORY)
                kept = self._make_rows(config, watch, progress)
            return kept

    def mean_curvature(self, config: PruneConfig) -> float:
        """Mean of the diagonal of the method's undamped curvature over the prunable weights."""
        config = self.resolve(config)
        key = ("mean curvature", *curvature_key(config))
        return self.cache.get(key, lambda: float(self.context(config).curvature().diagonal.mean()), lambda _: 8)

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
        fisher, keys = fisher_key(config), context_keys(config)
        solver_bytes = self.memory_need(config).solver

        def size(value: object) -> int:
            if isinstance(value, float):
                return 8
            # A Fisher keeps its rows alive even when their own entry leaves: counted twice rather than not at all. A streamed
            # one has a place of its own: its scratch file must not outlive its use.
            if isinstance(value, (StreamedFisher, StreamedInverse)):
                return self.cache.max_bytes + 1
            if isinstance(value, EmpiricalFisher):
                return value.rows.nbytes + value.kept_nbytes + solver_bytes
            return value.nbytes

        def make_fisher() -> Fisher:
            if self._streamed is not None and self._streamed[0] == fisher:
                return self._streamed[1]
            kept = self._kept_rows(config)
            if kept is not None:
                with watch("inverse"):
                    return EmpiricalFisher(kept, self.blocks(config), keep_products=True)
            with watch("plan"):
                plan = self._plan(config, self.storage, timed=self._say is not None)
            if self._say is not None:
                self._say(plan.describe())
            if plan.storage is Storage.MEMORY:
                rows = self._make_rows(config, watch, progress)
                with watch("inverse"):
                    return EmpiricalFisher(rows, self.blocks(config), keep_products=True)
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

        source = Source(problem.model, lambda count: self._batches(config, count), make_fisher)
        return PruningContext(
            problem.weights,
            problem.parameters,
            config,
            source,
            watch,
            store=lambda name, make: self.cache.get((name, *keys[name]), make, size),
        )

    def later_context(
        self, config: PruneConfig, start: Start, stage: int, watch: Stopwatch | None = None
    ) -> PruningContext:
        """The context of a stage after the first, from where the one before ended; nothing of it is kept."""
        problem = self.problem(config)
        watch = watch or Stopwatch(problem.device)
        network = problem.placed(start.weights, start.tensors)
        stage = stage if config.fresh_samples else 0

        def make_fisher() -> Fisher:
            return build_fisher(
                network,
                problem.parameters,
                config,
                self._plan(config, self.storage),
                self._batches(config, config.num_samples * config.mini_batch, stage),
                keep=start.keep,
                scratch=self.scratch,
                watch=watch,
            )

        source = Source(network, lambda count: self._batches(config, count, stage), make_fisher, keep=start.keep)
        return PruningContext(start.weights, problem.parameters, config, source, watch)

    def _batches(self, config: PruneConfig, count: int, stage: int = 0) -> Batches:
        """``count`` training samples: the first of those the gradients are made from, and more of the same order."""
        return list(self.problem(config).train_samples(self._picked(config, count, stage)).batches(1024))
