"""How a run went to its sparsity, in few words: two runs of one method at one sparsity are told apart by it."""

import json

from woodfisher_core.errors import InputError
from woodfisher_core.schedules import GradualSchedule


def schedule_words(stages: object, gradual: str | None) -> str:
    """``6 steps, 10 epochs`` of a gradual run, ``3 stages`` of a staged one, nothing where all went at once.

    Args:
        stages: The field of that name of the config, whatever a stranger's says there.
        gradual: The config of a gradual run as JSON; None of any other.
    """
    if gradual is not None:
        return _gradual_words(json.loads(gradual))
    several = isinstance(stages, int) and not isinstance(stages, bool) and stages > 1
    return f"{stages:,} stages" if several else ""


def _gradual_words(config: object) -> str:
    """Later versions may have other fields: then only that it was gradual."""
    try:
        steps, epochs = len(GradualSchedule(**config["schedule"]).levels), config["epochs"]
    except (InputError, TypeError, KeyError):
        return "gradual"
    if not isinstance(epochs, int):
        return "gradual"
    return f"{steps:,} step{'' if steps == 1 else 's'}, {epochs:,} epoch{'' if epochs == 1 else 's'}"
