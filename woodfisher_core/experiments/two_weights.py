"""Two weights and the quadratic model between them: what removing one costs, and what the other can do about it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from woodfisher_core.errors import InputError

# Points on one contour.
AROUND = 73
NAMES = ("w₁", "w₂")


@dataclass(frozen=True)
class TwoWeights:
    """Trained weights (w₁, w₂) at the minimum of ½θᵀFθ with F = [[a, c], [c, b]], θ the distance from them (nats)."""

    first: float
    second: float
    a: float
    b: float
    c: float

    def __post_init__(self):
        if not (self.a > 0 and self.b > 0 and self.a * self.b > self.c**2):
            raise InputError(
                f"two weights: expected a curvature that bends upwards in all directions, got a = {self.a:g}, b = {self.b:g}, "
                f"c = {self.c:g}. Raise the damping, or take a correlation nearer to 0."
            )

    @property
    def correlation(self) -> float:
        """ρ = c/√(ab)."""
        return self.c / (self.a * self.b) ** 0.5

    def correlated(self, correlation: float) -> "TwoWeights":
        """The same with another ρ."""
        return replace(self, c=correlation * (self.a * self.b) ** 0.5)

    def loss(self, first, second):
        """½θᵀFθ at these weights (numbers or arrays)."""
        x, y = first - self.first, second - self.second
        return 0.5 * (self.a * x * x + 2.0 * self.c * x * y + self.b * y * y)

    def removals(self) -> pd.DataFrame:
        """A row a weight: ``removed`` (1, 2), its ``weight``, ``obd`` ½w²F_jj, ``obs`` ½w²/[F⁻¹]_jj, the other one's ``move``.

        LeCun, Denker & Solla (1990) leave the other weight where it is; Hassibi & Stork (1993) move it to its best place.
        """
        left = self.a * self.b - self.c**2
        rows = [
            (
                1,
                self.first,
                0.5 * self.first**2 * self.a,
                0.5 * self.first**2 * left / self.b,
                self.c / self.b * self.first,
            ),
            (
                2,
                self.second,
                0.5 * self.second**2 * self.b,
                0.5 * self.second**2 * left / self.a,
                self.c / self.a * self.second,
            ),
        ]
        return pd.DataFrame(rows, columns=["removed", "weight", "obd", "obs", "move"])


def places(pair: TwoWeights, removed: int) -> pd.DataFrame:
    """Where the weights end: ``place`` (trained, obd, obs), ``first``, ``second``, ``loss`` in nats."""
    row = pair.removals().iloc[removed - 1]
    at = {"trained": (pair.first, pair.second)}
    if removed == 1:
        at |= {"obd": (0.0, pair.second), "obs": (0.0, pair.second + row["move"])}
    else:
        at |= {"obd": (pair.first, 0.0), "obs": (pair.first + row["move"], 0.0)}
    return pd.DataFrame(
        [{"place": name, "first": x, "second": y, "loss": pair.loss(x, y)} for name, (x, y) in at.items()]
    )


def contours(pair: TwoWeights, levels: Iterable[float]) -> pd.DataFrame:
    """Points around each contour of the model: ``level`` in nats, ``first``, ``second``; a NaN row ends each."""
    angle = np.linspace(0.0, 2.0 * np.pi, AROUND)
    # F = LLᵀ, so that θ = √(2·level) L⁻ᵀu for unit vectors u.
    lower = np.linalg.cholesky(np.array([[pair.a, pair.c], [pair.c, pair.b]]))
    unit = np.linalg.solve(lower.T, np.stack([np.cos(angle), np.sin(angle)]))
    parts = []
    for level in levels:
        x, y = np.sqrt(2.0 * level) * unit
        ring = {"level": level, "first": [*(pair.first + x), np.nan], "second": [*(pair.second + y), np.nan]}
        parts.append(pd.DataFrame(ring))
    return pd.concat(parts, ignore_index=True)


def over_correlations(
    pair: TwoWeights, removed: int, correlations: Iterable[float]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(:func:`places`, :func:`contours`) at each ρ, under ``correlation``; contours as :func:`contour_set` has
    them (``through``: level or obs)."""
    spots, rings = [], []
    for correlation in correlations:
        one = pair.correlated(correlation)
        found = places(one, removed)
        spots.append(found.assign(correlation=correlation))
        rings.append(contour_set(one, removed).assign(correlation=correlation))
    return pd.concat(spots, ignore_index=True), pd.concat(rings, ignore_index=True)


def contour_set(pair: TwoWeights, removed: int, multiples: Iterable[float] = (0.25, 0.5, 1.0, 2.0)) -> pd.DataFrame:
    """:func:`contours` at ``multiples`` of the loss of OBD (``through`` = level), and the one through OBS's place (= obs)."""
    row = pair.removals().iloc[removed - 1]
    plain = contours(pair, [multiple * row["obd"] for multiple in multiples]).assign(through="level")
    return pd.concat([plain, contours(pair, [row["obs"]]).assign(through="obs")], ignore_index=True)


def choices(pair: TwoWeights) -> dict[str, int]:
    """Which weight (1, 2) each rule removes first: the smallest |w|, ½w²F_jj, or ½w²/[F⁻¹]_jj; the first of equals."""
    table = pair.removals()
    rules = {"magnitude": table["weight"].abs(), "obd": table["obd"], "obs": table["obs"]}
    return {name: int(table.loc[values.idxmin(), "removed"]) for name, values in rules.items()}
