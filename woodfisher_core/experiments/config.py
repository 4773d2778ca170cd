"""The one description of a run: frozen, hashable, JSON both ways, and naming everything that can change its result."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from woodfisher_core.checks import whole_number
from woodfisher_core.errors import InputError
from woodfisher_core.models import get_model
from woodfisher_core.models.base import SHIPPED
from woodfisher_core.parameters import patterns
from woodfisher_core.prune_options import PruneOptions

# Raised only when the numbers a config gives change.
ENGINE_VERSION = 2
# Where things lie on this machine; they do not change a result (the weights' hash and the indices do).
_PLACES = frozenset({"data_dir", "weights"})


@dataclass(frozen=True, kw_only=True)
class PruneConfig(PruneOptions):
    """A one-shot pruning run.

    ``weights`` is a path, ``"shipped"`` or the name of some that a user brought (``own-…``, as ``dataset`` may be);
    ``weights_hash`` and ``data_hash`` are the sha256 of the tensors and of the images it ran on (filled in by the run; where
    they are given, other weights or data are refused);
    ``repair_batchnorm`` gives the network BatchNorm statistics of so many training images before anything else;
    ``sample_indices`` are training-set indices, or None for the first of the seed's order; ``held_out`` is the number of
    other training samples on which the loss change is predicted and measured; ``test_images`` evaluates on so many test images
    only (the first of a fixed order of them), None on all.
    """

    model: str = "mlpnet"
    dataset: str | None = None
    data_dir: str | None = None
    weights: str = SHIPPED
    weights_hash: str = ""
    data_hash: str = ""
    exclude: tuple[str, ...] = ()
    sample_indices: tuple[int, ...] | None = None
    repair_batchnorm: int = 0
    held_out: int = 1000
    test_images: int | None = None
    device: str = "auto"
    engine_version: int = ENGINE_VERSION

    def __post_init__(self):
        super().__post_init__()
        spec = get_model(self.model)
        if self.dataset is None:
            object.__setattr__(self, "dataset", spec.dataset)
        spec.check_dataset(self.dataset)
        object.__setattr__(self, "exclude", patterns(self.exclude))
        if self.sample_indices is not None:
            object.__setattr__(self, "sample_indices", tuple(int(i) for i in self.sample_indices))
            if self.images is not None:
                raise InputError(
                    "images: the sample indices already say which images there are. Leave one of them out."
                )
        for name, knob in (("held_out", "held-out samples"), ("repair_batchnorm", "repair BatchNorm")):
            object.__setattr__(self, name, whole_number(knob, getattr(self, name), 0))
        if self.test_images is not None:
            object.__setattr__(self, "test_images", whole_number("test images", self.test_images, 1))
        if self.images is not None and self.repair_batchnorm > self.images:
            raise InputError(
                f"images: only {self.images:,} exist, and repair_batchnorm asks for {self.repair_batchnorm:,}. Lower it."
            )
        if self.engine_version != ENGINE_VERSION:
            raise InputError(
                f"engine version: this is version {ENGINE_VERSION}, the config was made by {self.engine_version}; "
                "its numbers may differ. Set engine_version to run it here all the same."
            )

    def replace(self, **changes) -> "PruneConfig":
        """A copy with ``changes``."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values by field name."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: _plain(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "PruneConfig":
        """The config ``to_dict`` described; unknown fields are refused by name."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"config: unknown field {', '.join(unknown)}; expected among {', '.join(sorted(known))}.")
        return cls(**values)

    @property
    def key(self) -> str:
        """Hex sha256 of everything that can change the result; equal keys mean equal results."""
        identity = {name: value for name, value in self.to_dict().items() if name not in _PLACES}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, str) else value
