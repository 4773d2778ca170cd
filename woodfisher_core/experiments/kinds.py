"""The kinds of runs there are, each with the class that describes it. One line adds a kind."""

from collections.abc import Mapping

from woodfisher_core.errors import InputError
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.gradual import GradualConfig
from woodfisher_core.experiments.reading import read_fields

KINDS: dict[str, type[PruneConfig] | type[GradualConfig]] = {
    "prune": PruneConfig,
    GradualConfig.kind: GradualConfig,
}


def parse_config(kind: str, values: Mapping[str, object]) -> PruneConfig | GradualConfig:
    """The config of a run of ``kind`` from its plain JSON; whatever does not belong there is refused by name.

    Raises:
        InputError: The kind is not known, or a field is unknown, missing, of another type or cannot be used.
    """
    if kind not in KINDS:
        raise InputError(f"config: expected a kind among {', '.join(KINDS)}, got {kind!r}.")
    return read_fields(KINDS[kind], values)
