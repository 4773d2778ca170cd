"""What a step of the lesson is: words, an equation with this network's numbers in it, one figure, something to try."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from app.words import number
from woodfisher_core.experiments import PruneConfig, Workspace


@dataclass(frozen=True)
class Choice:
    """A control of one step; ``key`` is its parameter in the link."""

    key: str
    label: str
    options: tuple[str, ...]
    default: str
    help: str


@dataclass(frozen=True)
class Try:
    """Something to try: other ``values`` of the page's controls, by their names in the link."""

    words: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class Shown:
    """A step with the numbers of one network put in.

    ``idea`` is markdown; ``numbers`` are lines of LaTeX; ``sentence`` says what the figure says, ``data`` is what it was drawn
    from; ``answer`` belongs to the step's question.
    """

    idea: str
    numbers: tuple[str, ...]
    figure: go.Figure
    sentence: str
    data: pd.DataFrame
    answer: str


@dataclass(frozen=True)
class Step:
    """``name`` is the step's value in the link, ``title`` its question; ``show(space, config, *choices)`` puts the numbers in.

    ``runs`` are the pruning runs that takes, ``curves`` those that are drawn over the lesson's sparsities: for saying what it
    will cost.
    """

    name: str
    title: str
    short: str
    minutes: int
    equation: str
    question: str
    show: Callable[..., Shown]
    choices: tuple[Choice, ...] = ()
    tries: tuple[Try, ...] = ()
    runs: Callable[[PruneConfig], Sequence[PruneConfig]] = lambda config: (config,)
    curves: Callable[[PruneConfig], Mapping[str, PruneConfig]] = lambda config: {}

    def shown(self, space: Workspace, config: PruneConfig, *chosen: str) -> Shown:
        """The step, with its choices' defaults where none are given."""
        return self.show(space, config, *(chosen or (choice.default for choice in self.choices)))


def tex(value: float, digits: int = 3) -> str:
    """A number in LaTeX: ``0.178``, ``2{,}720``, ``3.16\\cdot10^{-5}``."""
    if not math.isfinite(value):
        return r"\text{not finite}"
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}".replace(",", "{,}")
    if value == float(f"{value:.0e}"):  # one digit says it all, as for most dampings
        digits = 1
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    if -3 <= exponent < 6:
        return f"{value:.{max(0, digits - 1 - exponent)}f}"
    mantissa = f"{value / 10.0**exponent:.{digits - 1}f}"
    return rf"10^{{{exponent}}}" if mantissa == "1" else rf"{mantissa}\cdot10^{{{exponent}}}"


def signed(value: float, digits: int = 3) -> str:
    """The same with its sign, for a sum."""
    return ("+" if value >= 0 else "-") + tex(abs(value), digits)


def nats(value: float, digits: int = 2) -> str:
    """A loss change in a sentence: ``+0.0035 nats``, ``−3.2·10⁻⁷ nats``."""
    return f"{number(value, f'+.{digits}g')}\u00a0nats"
