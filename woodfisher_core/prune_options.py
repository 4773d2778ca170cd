"""Everything about a pruning method that can change its result, checked once."""

import math
import operator
from dataclasses import dataclass

from woodfisher_core.errors import InputError
from woodfisher_core.masks import check_sparsity
from woodfisher_core.methods import Need, get_method
from woodfisher_core.options import (
    BLOCK_LAYER,
    DampingScale,
    GradientPrecision,
    Labels,
    Scope,
    Solver,
    Update,
    parse_block_size,
)


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Everything about a pruning method that can change its result. Plain strings become their enum; bad values raise.

    ``update`` None means the method's own default. ``damping`` is λ itself or, with ``damping_scale`` relative, λ over the
    mean of the undamped Fisher's diagonal.
    """

    method: str = "woodfisher"
    sparsity: float = 0.95
    num_samples: int = 1000
    mini_batch: int = 1
    labels: Labels = Labels.TRUE
    damping: float = 1e-3
    damping_scale: DampingScale = DampingScale.ABSOLUTE
    block_size: int | str = BLOCK_LAYER
    update: Update | None = None
    update_scale: float = 1.0
    scope: Scope = Scope.GLOBAL
    seed: int = 0
    solver: Solver = Solver.AUTO
    gradient_precision: GradientPrecision = GradientPrecision.FULL

    def __post_init__(self):
        method = get_method(self.method)
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - frozen after this
        put("sparsity", check_sparsity(self.sparsity))
        put("labels", Labels.parse(self.labels, "labels"))
        put("scope", Scope.parse(self.scope, "scope"))
        put("damping_scale", DampingScale.parse(self.damping_scale, "damping scale"))
        put("solver", Solver.parse(self.solver, "solver"))
        put("gradient_precision", GradientPrecision.parse(self.gradient_precision, "gradient precision"))
        put("update", method.default_update if self.update is None else Update.parse(self.update, "update"))
        put("block_size", parse_block_size(self.block_size))
        for name, least in (("num_samples", 1), ("mini_batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < least:
                knob = name.replace("_", " ")
                raise InputError(f"{knob}: expected a whole number of at least {least}, got {value!r}.")
            put(name, operator.index(value))
        if self.seed >= 2**32:
            raise InputError(f"seed: expected a whole number below 2³², got {self.seed}.")
        if not (isinstance(self.damping, (int, float)) and math.isfinite(self.damping) and self.damping > 0):
            raise InputError(f"damping: expected a positive number, got {self.damping}. A usual value is 1e-3.")
        if not (isinstance(self.update_scale, (int, float)) and math.isfinite(self.update_scale)):
            raise InputError(f"update scale: expected a finite number, got {self.update_scale}.")
        if self.update_scale != 1.0 and self.update is not Update.INDEPENDENT:
            raise InputError(
                f"update scale: only the independent update can be scaled, got scale {self.update_scale} with update "
                f"'{self.update}'. Set the scale to 1 or choose the independent update."
            )
        put("damping", float(self.damping))
        put("update_scale", float(self.update_scale))

    @property
    def uses_gradients(self) -> bool:
        """Whether the statistic or the update needs the Fisher."""
        return bool(get_method(self.method).needs) or self.update is not Update.NONE

    @property
    def uses_damping(self) -> bool:
        """Whether λ can change the result."""
        return self.uses_inverse or self.update is Update.JOINT

    @property
    def uses_inverse(self) -> bool:
        """Whether the statistic or the update needs F⁻¹ (the joint update solves systems of its own)."""
        return Need.INVERSE in get_method(self.method).needs or self.update is Update.INDEPENDENT
