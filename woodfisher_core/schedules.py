"""Pure level lists: how much is gone after each stage of a staged run, and in which epochs of a gradual one.

Both rise along s(x) = s₀ + (s − s₀)(1 − (1 − x)^p), x from 0 to 1: p = 3 is the cubic of Zhu & Gupta 2017 (arXiv
1710.01878, eq. 1), p = 1 a straight line. A level is what ``prune`` takes as its sparsity, a fraction.
"""

from dataclasses import dataclass
from functools import cached_property

from woodfisher_core.checks import real_number, whole_number
from woodfisher_core.errors import InputError
from woodfisher_core.masks import check_sparsity
from woodfisher_core.options import StageShape

CUBIC = 3.0


def stage_levels(
    target: float, stages: int, shape: StageShape | str, start: float = 0.0, degree: float = CUBIC
) -> tuple[float, ...]:
    """The levels of ``stages`` R steps from sparsity ``start`` to ``target``; the last is exactly ``target``.

    Level i = 1 … R is s₀ + (s − s₀)(1 − (1 − i/R)^p) with p = 1 for the linear shape and ``degree`` for the polynomial one:
    the official code's recomputation, where most weights go at the first stages.

    Raises:
        InputError: A sparsity outside [0, 1), a target below the start, less than one stage, a degree that is not positive.
    """
    stages = whole_number("stages", stages, 1)
    shape = StageShape.parse(shape, "stage shape")
    _check_rise(start, target)
    power = 1.0 if shape is StageShape.LINEAR else _check_degree(degree)
    return tuple(_level(start, target, i / stages, power) for i in range(1, stages + 1))


@dataclass(frozen=True, kw_only=True)
class GradualSchedule:
    """Pruning from sparsity ``initial`` in ``start_epoch`` to ``final`` in ``end_epoch``, every ``frequency`` epochs.

    Epochs count from 1 and are pruned before they train. In epoch t the level is
    s_f − (s_f − s_i)(1 − (t − t₀)/(t₁ − t₀))^p with p = ``degree`` (Zhu & Gupta 2017, eq. 1, p = 3). The end epoch always
    prunes, also where the frequency does not hit it, so that the final sparsity is reached exactly: of epochs 1 to 40 by 5 the
    official code prunes last in 36 and stays below its target, this one prunes in 36 and in 40. A level of 0 is no pruning and is
    left out: from initial sparsity 0 the first step comes ``frequency`` epochs after the start.

    Raises:
        InputError: A sparsity outside [0, 1), a final one of 0 or below the initial one, an end before the start, a frequency
            or an epoch below 1, a degree that is not positive.
    """

    final: float
    end_epoch: int
    initial: float = 0.0
    start_epoch: int = 1
    frequency: int = 1
    degree: float = CUBIC

    def __post_init__(self):
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - frozen after this
        for name in ("start_epoch", "end_epoch", "frequency"):
            put(name, whole_number(name.replace("_", " "), getattr(self, name), 1))
        if self.end_epoch < self.start_epoch:
            raise InputError(
                f"last step: expected it in the epoch of the first step ({self.start_epoch}) or a later one, got "
                f"{self.end_epoch}. Exchange the two, or raise the last (the end epoch)."
            )
        _check_rise(self.initial, self.final)
        if self.final == 0:
            raise InputError(
                "sparsity: expected a final one above 0, got 0. There is nothing to prune gradually: raise the sparsity."
            )
        put("initial", float(self.initial))
        put("final", float(self.final))
        put("degree", _check_degree(self.degree))

    @cached_property
    def levels(self) -> dict[int, float]:
        """Epoch → sparsity, in the order of the epochs."""
        span = self.end_epoch - self.start_epoch
        epochs = range(self.start_epoch, self.end_epoch, self.frequency)
        early = {t: _level(self.initial, self.final, (t - self.start_epoch) / span, self.degree) for t in epochs}
        return {t: level for t, level in early.items() if level > 0.0} | {self.end_epoch: self.final}


def _level(start: float, target: float, done: float, degree: float) -> float:
    """s(x); exactly the start at x = 0 and exactly the target at x = 1, which rounding would miss."""
    if done in (0.0, 1.0):
        return float(target if done else start)
    return target - (target - start) * (1.0 - done) ** degree


def _check_rise(start: float, target: float) -> None:
    check_sparsity(start)
    check_sparsity(target)
    if target < start:
        raise InputError(
            f"sparsity: expected a schedule that rises, got one from {start:g} down to {target:g}. "
            "Pruned weights are not revived: raise the target or lower the start."
        )


def _check_degree(degree: float) -> float:
    return real_number("degree", degree, "a positive number (1 is a straight line, 3 the usual cubic)", lambda p: p > 0)
