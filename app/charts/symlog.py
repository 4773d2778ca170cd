"""Axes and colours for values of both signs over many decades: logarithmic far from zero, linear around it."""

import math
from dataclasses import dataclass

import numpy as np

from app.charts.saliency import SUPERSCRIPTS


@dataclass(frozen=True)
class SymLog:
    """v ↦ sign(v)·log10(1 + |v|/``threshold``): linear below the threshold, a decade a unit far above it."""

    threshold: float

    @classmethod
    def of(cls, values, decades: float = 6.0) -> "SymLog":
        """One that shows ``values``: its threshold lies where the smaller tenth begins, at most ``decades`` below the largest."""
        sizes = np.abs(np.asarray(values, dtype=float).ravel())
        sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
        if not len(sizes):
            return cls(1.0)
        least = max(float(np.quantile(sizes, 0.1)), float(sizes.max()) * 10.0**-decades)
        return cls(10.0 ** math.floor(math.log10(least)))

    def __call__(self, values) -> np.ndarray:
        """The transformed values."""
        exact = np.asarray(values, dtype=float)
        return np.sign(exact) * np.log10(1.0 + np.abs(exact) / self.threshold)

    def ticks(self, low: float, high: float, most: int = 9) -> tuple[list[float], list[str]]:
        """(transformed places, labels) of zero and of powers of ten from ``low`` to ``high``, about ``most`` of them."""
        first = round(math.log10(self.threshold)) + 1  # the threshold itself would stand too near to zero

        def powers(end: float) -> list[int]:
            return [] if end <= 0 else list(range(first, math.floor(math.log10(end) + 1e-9) + 1))

        above, below = powers(high), powers(-low)
        step = max(1, math.ceil((len(above) + len(below)) / most))
        labels = {-(10.0**power): "−10" + str(power).translate(SUPERSCRIPTS) for power in below[::-1][::step]}
        labels |= {0.0: "0"}
        labels |= {10.0**power: "10" + str(power).translate(SUPERSCRIPTS) for power in above[::-1][::step][::-1]}
        return self(list(labels)).tolist(), list(labels.values())
