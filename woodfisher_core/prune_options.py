"""Everything about a pruning method that can change its result, checked once."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from woodfisher_core.checks import whole_number
from woodfisher_core.errors import InputError
from woodfisher_core.masks import Pattern, check_sparsity
from woodfisher_core.methods import EMPIRICAL, Need, get_method
from woodfisher_core.options import (
    BLOCK_LAYER,
    Budget,
    DampingScale,
    GradientPrecision,
    Labels,
    Scope,
    Solver,
    StageShape,
    Update,
    parse_block_size,
)

DEFAULT_SPARSITY = 0.95
# Whole numbers and the least they may be; images and probes may be left out.
COUNTS = {
    "num_samples": 1,
    "mini_batch": 1,
    "seed": 0,
    "images": 1,
    "batchnorm_images": 0,
    "stages": 1,
    "probes": 2,
}


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """Everything about a pruning method that can change its result. Plain strings become their enum; bad values raise.

    ``update`` None means the method's own default, ``sparsity`` None 0.95, or what ``pattern`` removes. ``damping`` is λ itself
    or, with ``damping_scale`` relative, λ over the mean of the undamped curvature's diagonal. ``images`` k says that only k
    training images exist, for everything a run learns from. ``batchnorm_images`` re-estimates BatchNorm statistics on that many
    of them afterwards. ``stages`` R prunes in R steps with everything measured anew at each. ``probes`` is the number of
    Hutchinson's random vectors; None counts exactly where the network is small.
    """

    method: str = "woodfisher"
    sparsity: float | None = None
    pattern: str | None = None
    budget: Budget = Budget.WEIGHTS
    flops_power: float = 0.0
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
    images: int | None = None
    batchnorm_images: int = 0
    stages: int = 1
    stage_shape: StageShape = StageShape.POLYNOMIAL
    fresh_samples: bool = True
    probes: int | None = None

    def __post_init__(self):
        method = get_method(self.method)
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - frozen after this
        self._settle_sparsity(put)
        put("labels", Labels.parse(self.labels, "labels"))
        put("damping_scale", DampingScale.parse(self.damping_scale, "damping scale"))
        put("stage_shape", StageShape.parse(self.stage_shape, "stage shape"))
        put("solver", Solver.parse(self.solver, "solver"))
        put("gradient_precision", GradientPrecision.parse(self.gradient_precision, "gradient precision"))
        put("update", method.default_update if self.update is None else Update.parse(self.update, "update"))
        put("block_size", parse_block_size(self.block_size))
        for name, least in COUNTS.items():
            value = getattr(self, name)
            if value is not None or name not in ("images", "probes"):
                put(name, whole_number(name.replace("_", " "), value, least))
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
        put("fresh_samples", bool(self.fresh_samples))
        self._check_images()
        method.check(self.update, self.scope, self.budget, self.pattern, self.flops_power)

    def _settle_sparsity(self, put: Callable[[str, object], None]) -> None:
        """What is removed: a fraction of the weights or of the multiply-adds, or a pattern's own."""
        put("scope", Scope.parse(self.scope, "scope"))
        put("budget", Budget.parse(self.budget, "budget"))
        if self.pattern is not None:
            pattern = Pattern.parse(self.pattern)
            put("pattern", str(pattern))
            if self.sparsity is None:
                put("sparsity", pattern.sparsity)
            if abs(check_sparsity(self.sparsity) - pattern.sparsity) > 1e-9:
                raise InputError(
                    f"sparsity: the pattern {pattern} removes {pattern.sparsity:g} of the weights, got {self.sparsity:g}. "
                    "Leave it out."
                )
            if self.scope is not Scope.GLOBAL or self.budget is not Budget.WEIGHTS:
                raise InputError(
                    f"pattern {pattern}: it has no threshold, so scope and budget must be left as they are."
                )
            if self.stages != 1:
                raise InputError(f"stages: the pattern {pattern} is reached in one step, got {self.stages!r} stages.")
        put("sparsity", check_sparsity(DEFAULT_SPARSITY if self.sparsity is None else self.sparsity))
        if self.budget is Budget.FLOPS and self.scope is Scope.ERK:
            raise InputError("budget: Erdős–Rényi layers share out weights, not multiply-adds. Choose another scope.")
        power = self.flops_power
        if isinstance(power, bool) or not isinstance(power, (int, float)) or not math.isfinite(power) or power < 0:
            raise InputError(f"FLOPs power: expected a number of at least 0, got {power!r}. The paper uses 0.3.")
        put("flops_power", float(power))

    def _check_images(self) -> None:
        """Nothing asks for more images than exist."""
        if self.images is None:
            return
        for asked, knob in (
            (self.num_samples * self.mini_batch if self.uses_data else 0, "num_samples × mini_batch"),
            (self.batchnorm_images, "batchnorm_images"),
        ):
            if asked > self.images:
                raise InputError(f"images: only {self.images:,} exist, and {knob} asks for {asked:,}. Lower it.")

    @property
    def mask_pattern(self) -> Pattern | None:
        """The pattern, parsed."""
        return None if self.pattern is None else Pattern.parse(self.pattern)

    @property
    def uses_data(self) -> bool:
        """Whether the statistic or the update looks at training images at all."""
        return bool(get_method(self.method).needs - {Need.SEED}) or self.update is not Update.NONE

    @property
    def uses_gradients(self) -> bool:
        """Whether the statistic or the update needs per-sample gradients."""
        method = get_method(self.method)
        return Need.GRADIENTS in method.needs or (method.curvature is EMPIRICAL and self.update is not Update.NONE)

    @property
    def uses_damping(self) -> bool:
        """Whether λ can change the result."""
        return self.uses_inverse or Need.DAMPING in get_method(self.method).needs or self.update is Update.JOINT

    @property
    def uses_inverse(self) -> bool:
        """Whether the statistic or the update needs the inverse of the curvature (the joint update solves systems of its own)."""
        return Need.INVERSE in get_method(self.method).needs or self.update is Update.INDEPENDENT
