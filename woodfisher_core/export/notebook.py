"""A notebook that computes one setting again and draws its view: the same core and the same charts, its config inside."""

import json
import pprint
from collections.abc import Sequence

from woodfisher_core.experiments.config import PruneConfig

SPARSITIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)

_SETTING = """\
import dataclasses

import pandas as pd

from app import charts
from woodfisher_core.experiments import PruneConfig, Workspace, tables
from woodfisher_core.methods import get_method

config = PruneConfig.from_dict(
{config}
)
beside = {beside}  # other methods, at the same setting with their own default update
workspace = Workspace()"""

_RUN = """\
problem, outcome, pruned = workspace.problem(config), workspace.outcome(config), workspace.evaluation(config)
shown = {shown}  # what the page showed
pd.DataFrame(
    {{
        "on the page": shown,
        "here": {{"accuracy (%)": pruned.accuracy, "test loss (nats)": pruned.loss, "weights kept": outcome.mask.kept}},
    }}
)"""

_CURVES = '''\
def plain(method):
    """The same setting with ``method``, and with a threshold in the place of a pattern."""
    if method == config.method:
        return config.replace(pattern=None)
    return config.replace(method=method, pattern=None, update=None, update_scale=1.0)


curves = {{name: workspace.curve(plain(name), {sparsities}) for name in (config.method, *beside)}}
labels = {{name: get_method(name).label for name in curves}}
table = tables.curve_table(curves, len(problem.test), labels)
charts.accuracy_curve(table, problem.dense.accuracy, (config.method, outcome.mask.sparsity, pruned.accuracy))'''

_LAYERS = """\
charts.layer_sparsity(tables.layer_table(problem.parameters, outcome.mask.keep), outcome.mask.sparsity)"""

_SALIENCY = """\
charts.saliency_histograms(
    tables.saliency_table(problem.parameters, outcome.saliency, outcome.mask.keep),
    tables.thresholds_by_layer(problem.parameters, outcome.mask),
    get_method(config.method).unit,
)"""

_LOSS = """\
charts.loss_change(tables.loss_table(workspace.loss_change(config)))"""

_CLASSES = """\
charts.class_accuracy(tables.class_table(problem.dense, pruned, problem.dataset.classes))"""

_SPEED = """\
from woodfisher_core.experiments import speed
from woodfisher_core.experiments.storage import storage

found = speed.latency(workspace, config, {batch})
charts.latency_bars(found.table, found.batch)"""

_SPEED_MORE = (
    "charts.work_and_time(found.table)",
    "charts.size_bars(storage(workspace, config))",
)

_AGAIN = """\
print(pd.DataFrame([dataclasses.asdict(point) for point in curves[config.method]]).to_csv(index=False))"""


def notebook_bytes(
    config: PruneConfig,
    shown: dict[str, float],
    beside: Sequence[str] = ("magnitude",),
    sparsities: Sequence[float] = SPARSITIES,
    batch: int | None = None,
) -> bytes:
    """A notebook (nbformat 4.5), not executed.

    Args:
        config: The setting; with the hashes filled in, other weights or data are refused.
        shown: What the page showed, by the names ``accuracy (%)``, ``test loss (nats)``, ``weights kept``.
        beside: Names of the methods drawn next to it.
        sparsities: Of the curves.
        batch: Images a call, where it shall also measure what the network gained in time and space.
    """
    # Where things lie, and on what they were computed, is another machine's.
    portable = config.replace(data_dir=None, device="auto").to_dict()
    setting = pprint.pformat(portable, indent=1, width=100, sort_dicts=False)
    setting = "\n".join(f"    {line}" for line in setting.splitlines())
    others = tuple(name for name in beside if name != config.method)
    words = {name: float(value) for name, value in shown.items()}
    gained = []
    if batch is not None:
        gained = [
            _words(
                "## What did I gain?\n\nMeasured on the machine that runs this, like everything on the page was on its own."
            ),
            *(_code(text) for text in (_SPEED.format(batch=batch), *_SPEED_MORE)),
        ]
    cells = [
        _words(
            f"# {config.model}, {config.method}: this setting again\n\n"
            "Written by WoodFisher Explorer. It computes one setting of the page anew, with the same code, and draws its "
            "charts.\nIt needs the project: in its folder, `pip install -r requirements.txt` and a Jupyter of your choice. The "
            "settings are in the\nnext cell: change them and run all cells."
        ),
        _code(_SETTING.format(config=setting, beside=repr(others))),
        _words("## The result\n\nOn another machine sums are rounded otherwise, so the last digits may differ."),
        _code(_RUN.format(shown=repr(words))),
        *gained,
        _words("## How much accuracy is left at each sparsity?"),
        _code(_CURVES.format(sparsities=repr(tuple(sparsities)))),
        _words("## How much does each layer give?"),
        _code(_LAYERS),
        _words("## Which weights go?"),
        _code(_SALIENCY),
        _words("## Does the quadratic model hold?"),
        _code(_LOSS),
        _words("## Which classes lose?"),
        _code(_CLASSES),
        _words("## The curve's numbers"),
        _code(_AGAIN),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return (json.dumps(notebook, indent=1) + "\n").encode()


def _words(text: str) -> dict[str, object]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(text: str) -> dict[str, object]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text.splitlines(keepends=True),
    }
