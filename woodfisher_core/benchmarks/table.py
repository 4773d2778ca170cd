"""The result of one speed case and the Markdown it is shown as."""

from dataclasses import dataclass, field
from statistics import median

from woodfisher_core.memory import gib


@dataclass(frozen=True)
class CaseResult:
    """Times of one case; its first contestant is ours, and every ratio is (other's median) / (our median).

    ``seconds`` holds every measured run. ``factors`` scales a contestant measured on a smaller problem to the size the
    case is about. ``differences`` are largest differences to ours, relative to the largest value. ``bytes`` are
    predicted. Targets: ``most_seconds`` for ours, ``least_ratio`` (contestant, value).
    """

    title: str
    setting: str
    bound_by: str
    seconds: dict[str, list[float]]
    factors: dict[str, float] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    most_seconds: float | None = None
    least_ratio: tuple[str, float] | None = None
    note: str = ""

    @property
    def medians(self) -> dict[str, float]:
        """Median seconds a contestant, scaled where the case scales."""
        return {name: median(runs) * self.factors.get(name, 1.0) for name, runs in self.seconds.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as long as ours."""
        ours, *others = self.medians.items()
        return {name: value / ours[1] for name, value in others}

    @property
    def target(self) -> tuple[str, bool] | None:
        """The goal in words, and whether it is met."""
        if self.most_seconds is not None:
            return f"ours below {self.most_seconds:g} s", next(iter(self.medians.values())) < self.most_seconds
        if self.least_ratio is not None:
            name, value = self.least_ratio
            return f"more than {value:,.0f} × faster than {name}", self.ratios[name] > value
        return None

    def to_json(self) -> dict[str, object]:
        """Plain values, the derived ones included."""
        return {
            "title": self.title,
            "setting": self.setting,
            "bound_by": self.bound_by,
            "seconds": self.seconds,
            "scaled_by": self.factors,
            "medians": self.medians,
            "ratios": self.ratios,
            "largest_relative_difference": self.differences,
            "predicted_bytes": self.bytes,
            "target": None if self.target is None else {"text": self.target[0], "met": self.target[1]},
            "note": self.note,
        }


def to_markdown(result: dict) -> str:
    """All cases of a run as one table, then what binds each, how far contestants differ, and the notes."""
    where, rates = result["machine"], result["gflops"]
    lines = [
        "### Speed: ours and each baseline in turns, one process, same threads",
        "",
        f"{where['cpu']}, {where['threads']} threads of {where['cpus']} CPUs, device {where['device']}, torch "
        f"{where['torch']}. Medians of {result['repeats']}.",
        "Matrix products here, before and after: "
        + ", ".join(
            f"{kind} {rates['before'][kind]:,.0f} and {rates['after'][kind]:,.0f} GFLOP/s"
            for kind in ("float32", "float64")
        )
        + ".",
        "",
        "| case | contestant | median (s) | from – to (s) | times ours |",
        "|---|---|---:|---:|---:|",
    ]
    for name, case in result["cases"].items():
        for index, (contestant, runs) in enumerate(case["seconds"].items()):
            factor = case["scaled_by"].get(contestant, 1.0)
            scaled = " (scaled)" if factor != 1.0 else ""
            ratio = "1" if index == 0 else _ratio(case["ratios"][contestant])
            span = f"{min(runs) * factor:.4g} – {max(runs) * factor:.4g}"
            lines.append(
                f"| {name if index == 0 else ''} | {contestant}{scaled} | {case['medians'][contestant]:.4g} | {span} "
                f"| {ratio} |"
            )
    for name, case in result["cases"].items():
        lines += ["", f"**{name}**: {case['title']}. {case['setting']}. Bound by: {case['bound_by']}."]
        if case["target"]:
            lines.append(f"Target: {case['target']['text']}: {'met' if case['target']['met'] else 'NOT met'}.")
        for who, value in case["largest_relative_difference"].items():
            lines.append(f"Largest difference between ours and {who}: {value:.1e} of the largest value.")
        if case["predicted_bytes"]:
            sizes = ", ".join(f"{who} {gib(count)}" for who, count in case["predicted_bytes"].items())
            lines.append(f"Memory (predicted): {sizes}.")
        if case["note"]:
            lines.append(case["note"])
    return "\n".join(lines)


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
