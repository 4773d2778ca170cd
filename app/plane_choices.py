"""What a plane of the Sensitivity page goes over, as far as the network and its data allow."""

from app import charts
from app.explain_plane import images_matter
from app.state import DAMPINGS
from woodfisher_core.evaluation import Evaluation
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.options import BLOCK_LAYER, BLOCK_NETWORK, Axis

SAMPLES = (20, 50, 100, 200, 500, 1000)
BLOCKS = (1, 10, 100, 1000)
MINI_BATCHES = (1, 2, 5, 10, 20, 50)
SCALES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
IMAGES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)
MOST_COLUMNS = 7
# Whole decades of the control's dampings, without the lowest.
PLANE_DAMPINGS = {scale: tuple(float(d) for d in given[2::2]) for scale, given in DAMPINGS.items()}


def own_cell(
    config: PruneConfig, axis: Axis, values: tuple[int | float | str, ...], dampings: tuple[float, ...]
) -> tuple[int | float | str, float] | None:
    """Which cell the setting in the sidebar is, where it is one of the plane."""
    at_damping = next((d for d in dampings if abs(config.damping / d - 1) < 1e-6), None)
    own = getattr(config, axis.field)
    if axis is Axis.IMAGES and (own is None or own > values[-1]):
        own = values[-1]  # all that a run looks at
    return (own, at_damping) if own in values and at_damping is not None else None


def axis_values(space: Workspace, config: PruneConfig, axis: Axis) -> tuple[int | float | str, ...]:
    """The values drawn on ``axis``, as far as the network and its data allow them."""
    problem = space.problem(config)
    there = len(problem.dataset.train)
    total = config.images or there
    if axis is Axis.SAMPLES:
        return tuple(count for count in SAMPLES if count * config.mini_batch <= total)
    if axis is Axis.BLOCK:
        sizes = tuple(size for size in BLOCKS if size < problem.parameters.num_prunable)
        return (*sizes, BLOCK_LAYER, BLOCK_NETWORK)
    if axis is Axis.UPDATE_SCALE:
        own = () if config.update_scale in SCALES else (config.update_scale,)
        return tuple(sorted((*SCALES, *own)))
    if axis is Axis.IMAGES:
        most = there if images_matter(config) else min(config.num_samples, there)
        return (*(count for count in IMAGES if count < most), most)[-MOST_COLUMNS:]
    return tuple(size for size in MINI_BATCHES if config.num_samples * size <= total)


def measure_levels(space: Workspace, config: PruneConfig, magnitude: Evaluation) -> dict[str, charts.Levels]:
    """What magnitude and the dense network reach in each measure that they have."""
    levels = {"accuracy": charts.Levels(magnitude.accuracy, space.problem(config).dense.accuracy)}
    loss = space.held_out_change(config.replace(method="magnitude", update=None, update_scale=1.0))[1]
    if loss is not None:
        levels |= dict.fromkeys(("predicted loss", "measured loss"), charts.Levels(loss, 0.0))
    return levels
