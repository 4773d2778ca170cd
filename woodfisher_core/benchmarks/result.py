"""The result of one speed case: what was measured, and what was aimed at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from woodfisher_core.benchmarks.timing import GemmRate

OURS = "ours"


@dataclass(frozen=True)
class Measured:
    """Seconds of every measured run and extra peak bytes of one separate run, by contestant; ours comes first."""

    seconds: dict[str, list[float]]
    peak_bytes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """``who`` takes at most ``limit`` times what ``than`` takes (``limit`` seconds where ``than`` is None).

    With ``memory`` it is the measured peak bytes of ``who`` over the known bytes ``than``.
    """

    limit: float
    than: str | None = None
    who: str = OURS
    memory: bool = False

    @property
    def text(self) -> str:
        """The goal in words."""
        if self.than is None:
            return f"{self.who} in at most {self.limit:g} s"
        if self.memory:
            return f"peak memory of {self.who} at most {self.limit:g} × {self.than}"
        if self.limit < 1:
            return f"{self.who} at least {1 / self.limit:,.4g} × faster than {self.than}"
        return f"{self.who} at most {self.limit:g} × {self.than}"

    def reached(self, case: "CaseResult") -> float:
        """The value held against ``limit``."""
        if self.memory:
            return case.measured.peak_bytes[self.who] / case.bytes[self.than]
        medians = case.medians
        return medians[self.who] / (1.0 if self.than is None else medians[self.than])

    def reached_text(self, value: float) -> str:
        """``value`` in the words of the goal."""
        if self.than is None:
            return f"{value:.3g} s"
        return f"{1 / value:,.4g} ×" if self.limit < 1 and not self.memory else f"{value:.3g} ×"


@dataclass(frozen=True)
class CaseResult:
    """One case; its first contestant is ours, and every ratio is (other's median) / (our median).

    Attributes:
        title, setting, bound_by, note: Words for the table.
        measured: Seconds and peak bytes by contestant.
        factors: Scales a contestant measured on a smaller problem to the size the case is about.
        differences: Largest differences to ours, relative to the largest value.
        bytes: Bytes known without running, by what they are.
        operations: Floating-point operations (a multiply and an add are two) a contestant cannot do without.
        targets: What was aimed at.
        slopes: Exponents fitted on logarithms, by variable.
        left_out: Contestants that were not run, with the reason.
    """

    title: str
    setting: str
    bound_by: str
    measured: Measured
    factors: dict[str, float] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    operations: dict[str, float] = field(default_factory=dict)
    targets: Sequence[Target] = ()
    slopes: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds a contestant, scaled where the case scales."""
        return {name: median(runs) * self.factors.get(name, 1.0) for name, runs in self.measured.seconds.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as long as ours."""
        ours, *others = self.medians.items()
        return {name: value / ours[1] for name, value in others}

    def shares(self, rate: float) -> dict[str, float]:
        """Operations a second over ``rate`` (10⁹ a second), the machine's own matrix product; 1 is all it can do."""
        return {name: count / self.medians[name] / (rate * 1e9) for name, count in self.operations.items()}

    def to_json(self, rate: GemmRate) -> dict[str, object]:
        """Plain values, the derived ones included."""
        reached = [(target, target.reached(self)) for target in self.targets]
        return {
            "title": self.title,
            "setting": self.setting,
            "bound_by": self.bound_by,
            "seconds": self.measured.seconds,
            "scaled_by": self.factors,
            "medians": self.medians,
            "ratios": self.ratios,
            "largest_relative_difference": self.differences,
            "known_bytes": self.bytes,
            "measured_peak_bytes": self.measured.peak_bytes,
            "operations": self.operations,
            "share_of_float32_product_rate": self.shares(rate.float32),
            "slopes": self.slopes,
            "left_out": self.left_out,
            "targets": [
                {
                    "text": target.text,
                    "limit": target.limit,
                    "reached": value,
                    "reached_text": target.reached_text(value),
                    "met": value <= target.limit,
                }
                for target, value in reached
            ],
            "note": self.note,
        }
