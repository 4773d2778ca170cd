"""How numbers and lists are written in sentences; without Streamlit, so that notebooks write the same ones."""

from collections.abc import Sequence

from app.charts.saliency import SUPERSCRIPTS
from woodfisher_core.evaluation import CONFIDENT


def number(value: float, form: str = ".3g") -> str:
    """``−0.313``, ``+2.4·10⁻⁵``: ``value`` in Python's ``form``, with a true minus and the exponent as people write it."""
    digits, _, exponent = format(value, form).partition("e")
    power = "·10" + str(int(exponent)).translate(SUPERSCRIPTS) if exponent else ""
    return digits.replace("-", "−", 1) + power


def percent(value: float, digits: int = 2) -> str:
    """``97.20 %`` from 97.2, its sign never on another line."""
    return f"{value:.{digits}f}\u00a0%"


def share(fraction: float, digits: int = 0) -> str:
    """``80 %`` from 0.8."""
    return percent(100.0 * fraction, digits)


def duration(seconds: float) -> str:
    """``0.9 ms``, ``44 ms``, ``2.2 s``, ``3 min``."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.{1 if seconds < 0.00995 else 0}f}\u00a0ms"
    return f"{seconds:.{1 if seconds < 9.95 else 0}f}\u00a0s" if seconds < 119.5 else f"{seconds / 60:.0f}\u00a0min"


def gap_words(gap: float, error: float, digits: int = 2, more: str = "better", less: str = "worse") -> str:
    """``1.20 points better``, or that both are equal; ``gap`` and its standard ``error`` in percentage points."""
    if abs(gap) <= CONFIDENT * error:
        return "equal within the noise of the test images"
    return f"{abs(gap):.{digits}f} points {more if gap > 0 else less}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
