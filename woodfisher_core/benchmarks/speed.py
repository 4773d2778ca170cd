"""Speed: ours beside each baseline, in turns, on this machine.

Baselines: the paper's literal recursion (Singh & Alistarh 2020, eq. 7), M-FAC's recursion, loops of backward passes, one
matrix product, BackPACK and curvlinops where installed. All times are wall-clock seconds; where two contestants compute
the same thing, the case also says how far they differ.
"""

from collections.abc import Callable, Sequence

from woodfisher_core.benchmarks.bench import Bench
from woodfisher_core.benchmarks.cases import CASES, LARGE
from woodfisher_core.benchmarks.timing import GemmRate, OtherLoad, gemm_rate
from woodfisher_core.devices import resolve_device
from woodfisher_core.environment import machine
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.config import SHIPPED


def run(
    cases: Sequence[str] | None = None,
    repeats: int = 5,
    weights: str = SHIPPED,
    data_dir: str | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda text: None,
    resnet20_weights: str | None = None,
    resnet20_images: str | None = None,
) -> dict[str, object]:
    """The named cases (all by default) as plain JSON values, with the machine and its product rate before and after.

    Args:
        cases: Names in ``CASES``.
        repeats: Measured turns.
        weights: MLPNet's weights; the shipped ones by default.
        data_dir: Folder of MNIST.
        device: ``auto``, ``cpu`` or ``cuda``.
        say: Told, in words, what goes on.
        resnet20_weights: A checkpoint of ResNet-20; fresh Kaiming weights by default.
        resnet20_images: A folder with one folder of 32 × 32 images a class; seeded synthetic ones by default.

    Raises:
        InputError: An unknown case or a value that cannot be used.
    """
    chosen = list(CASES) if cases is None else list(cases)
    for name in chosen:
        if name not in CASES:
            raise InputError(f"case: expected one of {', '.join(CASES)}, got {name!r}.")
    if repeats < 1:
        raise InputError(f"repeats: expected at least 1, got {repeats}.")
    where = resolve_device(device)
    bench = Bench(repeats, where, weights, data_dir, resnet20_weights, resnet20_images, Workspace(), say)
    say("matrix-product rate")
    load = OtherLoad()
    before = gemm_rate(where)
    results = {}
    for index, name in enumerate(chosen):
        say(f"{name}: {CASES[name].__doc__.splitlines()[0]}")
        results[name] = CASES[name](bench)
        if not LARGE & set(chosen[index + 1 :]):
            bench.release()
    after = gemm_rate(where)
    rate = GemmRate(before.size, *((getattr(before, k) + getattr(after, k)) / 2 for k in ("float32", "float64")))
    return {
        "benchmark": "speed",
        "machine": machine(where),
        "repeats": repeats,
        "resnet20": {"weights": resnet20_weights, "images": resnet20_images},
        "gflops": {"before": vars(before), "after": vars(after)},
        "cpu_share_of_others": load.share(),
        "cases": {name: result.to_json(rate) for name, result in results.items()},
    }
