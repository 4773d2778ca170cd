"""Equations are cut where they may be, and nothing of them is lost."""

import pytest

from app.formulas import parts
from app.learning import STEPS


@pytest.mark.parametrize(
    ("latex", "wanted"),
    [
        ("a=b", ["a=b"]),
        (r"a,\qquad b", ["a,", "b"]),
        (r"\qquad a\qquad\qquad b\qquad", ["a", "b"]),
        (r"\underbrace{a\qquad b}_{c}\qquad d", [r"\underbrace{a\qquad b}_{c}", "d"]),
        (r"P=\{j:a\qquad b\}\qquad c", [r"P=\{j:a", r"b\}", "c"]),
        (r"a\quad b", [r"a\quad b"]),
        (r"a\qquad0.5", ["a", "0.5"]),
    ],
)
def test_parts(latex, wanted):
    assert parts(latex) == wanted


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_parts_of_the_lesson_are_formulas(step):
    """Every part has its own braces and its own \\left and \\right."""
    for part in parts(step.equation):
        plain = part.replace(r"\{", "").replace(r"\}", "")
        assert plain.count("{") == plain.count("}")
        assert part.count(r"\left") - part.count(r"\leftarrow") == part.count(r"\right") - part.count(r"\rightarrow")
