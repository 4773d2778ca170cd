"""Gradients that do not fit in memory: the same numbers from a file or recomputed, within the budget, said beforehand."""

import errno
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from cases import CASES, Case, batch, network
from oracle import dense_fisher, dense_inverse, kkt_step, norm_error, relative

from woodfisher_core import planning, sources
from woodfisher_core.errors import InputError, MemoryBudgetError, NumericalError
from woodfisher_core.fisher import Blocks, EmpiricalFisher, StreamedFisher, cut
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.gradients import gradient_rows
from woodfisher_core.options import Solver
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.planning import Storage
from woodfisher_core.pruning import prune
from woodfisher_core.sources import Recomputed, Spilled

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_width = pytest.mark.parametrize("width", [1, 13, 10_000])
each_storage = pytest.mark.parametrize("storage", list(Storage), ids=str)


def streamed(case: Case, width: int) -> tuple[torch.Tensor, StreamedFisher]:
    rows = case.rows()
    spans = cut(case.blocks, len(rows), width)
    parts = [part for span in spans for part in span.parts]
    source = Spilled(rows.split(7), len(rows), parts, rows.dtype, rows.device)
    return rows, StreamedFisher(source, case.blocks, spans)


@each_case
@each_width
def test_spans_tile_the_blocks(case, width):
    """Spans hold whole blocks in order, each block once; a part is never wider than asked unless a block must be whole."""
    spans = cut(case.blocks, case.num_rows, width)
    wanted = [(s.start, s.stop) for s in case.blocks.slices()]
    found = [
        (span.columns.start + s.start, span.columns.start + s.stop) for span in spans for s in span.blocks.slices()
    ]
    assert found == wanted
    assert [span.first_block for span in spans] == [
        found.index((s.columns.start, s.columns.start + next(s.blocks.slices()).stop)) for s in spans
    ]
    for span in spans:
        edges = [(part.start, part.stop) for part in span.parts]
        assert all(a[1] == b[0] for a, b in pairwise(edges))
        whole = span.blocks.count == 1 and case.num_rows >= span.blocks.largest
        assert whole or max(b - a for a, b in edges) <= width


@each_case
@each_width
@pytest.mark.parametrize("damping", [1e-5, 1e-1])
def test_streamed_against_oracles(case, width, damping):
    """Diagonal, product, joint step, projections and curvature of a Fisher read in parts are the dense ones."""
    rows, fisher = streamed(case, width)
    blocks, weights, keep = case.blocks, case.weights(), case.keep(0.7)
    wanted = dense_inverse(rows, blocks, damping)
    inverse = fisher.inverse(damping)
    x = torch.randn(len(wanted), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert relative(inverse.diagonal(), wanted.diagonal()) <= 1e-6
    assert norm_error(inverse.apply(x), wanted @ x) <= 1e-6
    assert torch.allclose(fisher.diagonal, rows.double().square().mean(0), rtol=1e-12, atol=0)
    step = fisher.joint_steps(weights, [keep], damping)[0]
    dense = dense_fisher(rows, blocks, damping)
    assert torch.linalg.norm(step - kkt_step(dense, blocks, weights, keep)) <= 1e-6 * torch.linalg.norm(
        weights.double()
    )
    moved = sum(float(part.square().sum()) for part in fisher.projections(weights)) / len(rows)
    exact = weights.double() @ (dense - damping * torch.eye(len(dense), dtype=torch.float64)) @ weights.double()
    assert moved == pytest.approx(float(exact), rel=1e-9, abs=1e-18)
    for first, second in ((0, 0), (0, blocks.dim - 1), (blocks.dim // 2, blocks.dim // 2 - 1)):
        alone = float(dense[first, second]) - damping * (first == second)
        assert fisher.entry(first, second) == pytest.approx(alone, rel=1e-9, abs=1e-12 * float(dense.abs().max()))


def test_messages_number_blocks_over_the_whole_network():
    """A block that fails in a later span is named by its place in the network."""
    rows = torch.ones(2, 40)
    rows[:, 30:] = 1e6
    blocks = Blocks((Run(0, 4, 10),))
    source = Spilled([rows], 2, [slice(i, i + 10) for i in range(0, 40, 10)], rows.dtype, rows.device)
    fisher = StreamedFisher(source, blocks, cut(blocks, 2, 10))
    with pytest.raises(NumericalError, match="Fisher block 3 "):
        fisher.inverse(1e-8).diagonal()


def test_recomputed_parts_are_the_columns():
    """Any column range, within a layer or across several, gives the same gradients as all at once."""
    model, (inputs, targets) = network("conv"), batch("conv", 9)
    parameters = PrunableParameters.from_model(model)
    whole = torch.cat(list(gradient_rows(model, parameters, [(inputs, targets)])))
    source = Recomputed(
        lambda own: gradient_rows(model, own, [(inputs, targets)], chunk=4), parameters, 9, whole.dtype, whole.device
    )
    for start, stop in ((0, 27), (3, 20), (20, 140), (0, 147), (146, 147)):
        assert torch.allclose(source.read(slice(start, stop)), whole[:, start:stop], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_spilled_file_gives_back_what_it_took(tmp_path, dtype):
    """Parts come back bit for bit in the type of the file, which leaves nothing behind."""
    rows = torch.randn(11, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [slice(0, 4), slice(4, 29), slice(29, 30)]
    source = Spilled(rows.split(3), 11, parts, dtype, rows.device, tmp_path)
    assert source.nbytes == 11 * 30 * dtype.itemsize
    for part in reversed(parts):
        assert torch.equal(source.read(part), rows[:, part].to(dtype))
    del source
    assert list(tmp_path.iterdir()) == []


def test_threads_share_a_file():
    """Several threads reading at once each get their own part."""
    rows = torch.arange(600, dtype=torch.float32).repeat(50, 1)
    parts = [slice(start, start + 3) for start in range(0, 600, 3)]
    source = Spilled([rows], 50, parts, rows.dtype, rows.device)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(source.read, parts * 5))
    assert all(torch.equal(part, rows[:, columns]) for part, columns in zip(found, parts * 5, strict=True))


def test_a_full_disk_is_said(monkeypatch):
    """Where writing fails the error names the knobs, and is one of ours."""

    def full(file, view):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "_write_all", full)
    with pytest.raises(MemoryBudgetError, match=r"No space left on device.*scratch.*recomputed"):
        Spilled([torch.ones(2, 3)], 2, [slice(0, 3)], torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("count", [1, 3])
def test_sources_count_their_rows(count):
    """Fewer or more rows than promised are refused, wherever they are kept."""
    parameters = PrunableParameters.from_model(network("mlp"))
    wrong = torch.ones(count, 125)
    with pytest.raises(InputError, match=f"expected 2 rows, got {count}"):
        Spilled([wrong], 2, [slice(0, 125)], torch.float32, wrong.device)
    if count < 2:
        with pytest.raises(InputError, match=f"expected 2 rows, got {count}"):
            Recomputed(lambda own: [wrong], parameters, 2, torch.float32, wrong.device).read(slice(0, 125))


def run(storage: str | None = None, budget: int | None = None, **options):
    """A conv net pruned with 40 samples."""
    chosen = {"num_samples": 40, "sparsity": 0.6, "damping": 1e-3, "block_size": 10, **options}
    return prune(network("conv"), [batch("conv", 40)], storage=storage, memory_budget=budget, device="cpu", **chosen)


@each_storage
@pytest.mark.parametrize("update", ["none", "independent", "joint"])
@pytest.mark.parametrize("block", [10, "layer", "network"])
@pytest.mark.parametrize("scale", ["absolute", "relative"])
def test_a_run_does_not_depend_on_the_storage(storage, update, block, scale):
    """The same mask, the same weights to rounding and the same prediction, wherever the gradients are."""
    options = {"update": update, "block_size": block, "damping_scale": scale}
    here, there = run(**options), run(storage=str(storage), **options)
    assert there.plan.storage is storage
    assert torch.equal(here.mask.keep, there.mask.keep)
    assert norm_error(there.weights.double(), here.weights.double()) <= 1e-6
    assert there.predicted.total == pytest.approx(here.predicted.total, rel=1e-5)


def test_sampled_labels_are_the_same_on_every_pass():
    """Recomputed gradients draw the labels they drew before."""
    here, there = (run(labels="sampled", storage=storage) for storage in (None, "recomputed"))
    assert torch.equal(here.mask.keep, there.mask.keep)


def test_the_plan_is_said_before_the_work():
    """What is kept where, bytes and time come before the first gradient."""
    events: list[str] = []
    prune(
        network("conv"),
        [batch("conv", 20)],
        num_samples=20,
        storage="spilled",
        say=events.append,
        progress=lambda done: events.append(f"row {done}"),
    )
    assert "scratch file of" in events[0]
    assert "of memory for its numbers (budget" in events[0]
    assert events[0].rstrip(".").split(", about ")[1]
    assert events[1].startswith("row")


def task(**changes) -> planning.Task:
    """ResNet-50's size: 25.5 million weights in blocks of 2,000, 400 rows."""
    values = {
        "num_rows": 400,
        "mini_batch": 1,
        "blocks": Blocks((Run(0, 12_750, 2000),)),
        "solver": Solver.AUTO,
        "update": planning.Update.NONE,
        "damping_scale": planning.DampingScale.ABSOLUTE,
        "itemsize": 4,
        "activation_bytes": 1 << 28,
        "input_bytes": 1 << 28,
    }
    return planning.Task(**{**values, **changes})


def test_what_is_chosen_as_the_budget_shrinks(monkeypatch):
    """In memory, else in a file where the disk has room, else recomputed; never more than was allowed."""
    gib = 1 << 30
    monkeypatch.setattr(planning, "_disk_room", lambda scratch: 60 * gib)
    assert planning.make_plan(task(), 100 * gib).storage is Storage.MEMORY
    spilled = planning.make_plan(task(), 6 * gib)
    assert spilled.storage is Storage.SPILLED
    assert spilled.disk_bytes == 400 * 25_500_000 * 4
    monkeypatch.setattr(planning, "_disk_room", lambda scratch: 10 * gib)
    recomputed = planning.make_plan(task(), 6 * gib)
    assert recomputed.storage is Storage.RECOMPUTED
    assert recomputed.disk_bytes == 0
    assert max(plan.peak_bytes for plan in (spilled, recomputed)) <= 6 * gib
    half = planning.make_plan(task(itemsize=2), 6 * gib)
    assert half.gradient_bytes * 2 == recomputed.gradient_bytes
    with pytest.raises(MemoryBudgetError, match=r"38\.0 GiB.* has room for 10\.0 GiB.*recomputed"):
        planning.make_plan(task(), 6 * gib, storage=Storage.SPILLED)


@pytest.mark.parametrize("block", [10, "network"])
@pytest.mark.parametrize("storage", ["spilled", "recomputed"])
def test_a_budget_below_one_block_names_the_smallest(block, storage):
    """The budget named in the error is enough, and a little less is not."""
    with pytest.raises(
        MemoryBudgetError, match="too small even for one block at a time; the smallest that works"
    ) as info:
        run(storage=storage, budget=1000, block_size=block)
    amount, unit = str(info.value).split("works here is ")[1].split(". Raise")[0].split()
    named = float(amount) * {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}[unit]
    slack = 0.06 * named / float(amount)  # the message rounds to a tenth
    assert run(storage=storage, budget=int(named + slack), block_size=block).plan.peak_bytes <= named + slack
    with pytest.raises(MemoryBudgetError, match="too small even for one block"):
        run(storage=storage, budget=int(named - 2 * slack), block_size=block)


def test_forced_storage_says_what_it_cannot():
    """Held in memory against the budget, a spectral solver over streamed blocks, a folder that is not there, a bad name."""
    with pytest.raises(MemoryBudgetError, match="held in memory need"):
        run(storage="memory", budget=1000)
    with pytest.raises(MemoryBudgetError, match="or choose the solver 'auto'"):
        run(storage="spilled", solver="spectral", block_size="network", budget=1000)
    with pytest.raises(InputError, match="scratch: expected a folder that exists, got '/nowhere/at/all'"):
        prune(network("mlp"), [batch("mlp", 5)], num_samples=5, scratch="/nowhere/at/all")
    with pytest.raises(InputError, match="storage: expected one of memory, spilled, recomputed, got 'tape'"):
        run(storage="tape")


def test_bfloat16_costs_little():
    """Rounding the gradients to 8 bits moves diag F⁻¹ by less than a percent and hardly a weight of the mask."""
    case = next(case for case in CASES if case.name == "conv network")
    rows = case.rows()
    wanted = EmpiricalFisher(rows, case.blocks).inverse(1e-3).diagonal()
    got = EmpiricalFisher(rows.bfloat16(), case.blocks).inverse(1e-3).diagonal()
    exact = dense_inverse(rows.bfloat16().float(), case.blocks, 1e-3).diagonal()
    assert relative(got, exact) <= 1e-6  # of the rounded rows: only the storage rounds, not the arithmetic
    assert 1e-5 < relative(got, wanted) < 1e-2
    full, half = run(), run(gradient_precision="bfloat16", storage="spilled")
    assert half.plan.gradient_bytes * 2 == full.plan.gradient_bytes
    assert (full.mask.keep != half.mask.keep).sum() <= 4


def test_asking_for_the_plan_changes_nothing(monkeypatch):
    """Targets that are never read are not read for the prediction either; a folder that takes no file is said."""
    inputs, targets = batch("conv", 20)
    data = [(inputs, torch.full_like(targets, -7))]
    options = {"num_samples": 20, "sparsity": 0.5, "labels": "sampled", "device": "cpu"}
    quiet, told = (
        prune(network("conv"), data, **options),
        prune(network("conv"), data, say=lambda text: None, **options),
    )
    assert torch.equal(quiet.mask.keep, told.mask.keep)

    def none(**options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", none)
    for say in (None, lambda text: None):
        with pytest.raises(MemoryBudgetError, match=r"scratch file: writing .*Read-only.* Choose another folder"):
            prune(network("conv"), [(inputs, targets)], num_samples=20, storage="spilled", say=say)


def test_large_activations_make_smaller_chunks():
    """Rows are made a few at a time where their activations are large, rather than refused."""
    small = planning.make_plan(task(blocks=Blocks((Run(0, 100, 100),)), activation_bytes=100 << 20), 16 << 30)
    assert small.chunk * (100 << 20) <= planning.MAKING_SHARE * (16 << 30)
    assert small.chunk > 1
    assert planning.make_plan(task(blocks=Blocks((Run(0, 100, 100),)), activation_bytes=1000), 16 << 30).chunk == 256


def test_layers_of_other_types_are_named():
    """What stays dense is said; a model with nothing else is refused with what to do."""
    model = torch.nn.Sequential(torch.nn.Embedding(7, 6), torch.nn.Linear(6, 3))
    data = [(torch.randint(7, (8,)), torch.randint(3, (8,)))]
    with pytest.warns(UserWarning, match=r"stay dense: 0 \(Embedding\); express them through Linear or Conv"):
        prune(model, data, num_samples=8, sparsity=0.5)
    with pytest.raises(InputError, match=r"Its other weights cannot be pruned: .*\(LSTM\)"):
        prune(torch.nn.LSTM(3, 4), data)
    with pytest.raises(InputError, match=r"expected float32 or float64 weights, got torch\.float16"):
        prune(torch.nn.Linear(3, 4).half(), data)
    with pytest.raises(InputError, match="its size is not known yet"):
        prune(torch.nn.LazyLinear(4), data)
