"""Float32 where a bound allows it: never beyond 1e-4, whatever was asked before; and real gradients against dense inverses."""

import itertools
from functools import cache

import pytest
import torch
from oracle import dense_inverse, norm_error, relative

from woodfisher_core.errors import NumericalError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.fisher import Blocks, EmpiricalFisher, dual, groups, joint, precision, spectral
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.fisher.groups import COMPUTE, Group, add_lower_gram, lower_tiles, mirrored
from woodfisher_core.fisher.precision import SINGLE
from woodfisher_core.options import Solver
from woodfisher_core.timing import Stopwatch

DAMPINGS = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)


@pytest.fixture
def always_tried(monkeypatch):
    """Float32 is tried on small problems too."""
    monkeypatch.setattr(groups, "LEAST_WORK", 1)
    monkeypatch.setattr(groups, "WIDENED_BYTES", 0)
    monkeypatch.setattr(joint, "MOST_EXACT", 0)


def wide_rows(num_rows: int, size: int, kind: str) -> torch.Tensor:
    """Gradients that are odd in one way each, (N, B) float32."""
    generator = torch.Generator().manual_seed(num_rows)
    rows = torch.randn(num_rows, size, generator=generator)
    if kind == "norms over ten decades":
        rows *= 10.0 ** torch.linspace(-10, 0, num_rows).unsqueeze(1)
    elif kind == "nearly parallel":
        rows = 1.0 + 1e-2 * rows.abs()
    elif kind == "repeated":
        rows = rows[torch.arange(num_rows) % (num_rows // 2)]
    elif kind == "one rank and noise":
        rows = rows[:1] * torch.randn(num_rows, 1, generator=generator) + 1e-4 * rows
    elif kind == "zero rows":
        rows[::3] = 0.0
    elif kind == "few columns matter":
        rows *= 10.0 ** torch.linspace(0, -6, size)
    return rows


KINDS = (
    "plain", "norms over ten decades", "nearly parallel", "repeated", "one rank and noise", "zero rows", "few columns matter",
)  # fmt: skip


def block(size: int) -> Blocks:
    return Blocks((Run(0, 1, size),))


@pytest.mark.usefixtures("always_tried")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", [Solver.DUAL, Solver.SPECTRAL])
@pytest.mark.parametrize(("num_rows", "size"), [(40, 900), (7, 300)])
def test_float32_never_costs_more_than_its_tolerance(kind, solver, num_rows, size):
    """diag F⁻¹ to 1e-4 at every damping, from one prepared Fisher, in any order."""
    rows = wide_rows(num_rows, size, kind)
    fisher = EmpiricalFisher(rows, block(size))
    for damping in (*DAMPINGS, *reversed(DAMPINGS)):
        wanted = dense_inverse(rows, block(size), damping).diagonal()
        try:
            found = fisher.inverse(damping, solver).diagonal()
        except NumericalError:
            assert damping == 1e-8
        else:
            assert relative(found, wanted) <= 1e-4


@pytest.mark.usefixtures("always_tried")
@pytest.mark.parametrize("solver", [Solver.DUAL, Solver.SPECTRAL])
def test_the_answer_does_not_depend_on_what_was_asked_before(solver):
    """A damping that needs float64 leaves those that do not as they were, bit for bit."""
    rows = wide_rows(40, 900, "nearly parallel")
    dampings = [damping for damping in DAMPINGS if damping > 1e-8]  # the spectrum refuses less on these rows
    alone = {damping: EmpiricalFisher(rows, block(900)).inverse(damping, solver).diagonal() for damping in dampings}
    shared = EmpiricalFisher(rows, block(900))
    for damping in (*dampings, *reversed(dampings)):
        assert torch.equal(shared.inverse(damping, solver).diagonal(), alone[damping])


@pytest.mark.usefixtures("always_tried")
def test_both_precisions_are_really_used():
    """A well-behaved group stays in float32 (and differs from float64 in the last digits); an ill-behaved one does not."""
    rows = wide_rows(40, 900, "plain")
    group = Group(rows.unsqueeze(0), slice(0, 900), 0)
    held = dual.Dual(group)
    held.at(1e-2).diagonal()
    assert list(held._grams) == [SINGLE]
    assert not torch.equal(held.gram(SINGLE), held.gram(COMPUTE))
    assert torch.allclose(held.gram(SINGLE), held.gram(COMPUTE), rtol=1e-5, atol=1e-3)
    bad = spectral.Spectral(Group(wide_rows(40, 900, "one rank and noise").unsqueeze(0), slice(0, 900), 0))
    bad.at(1e-6).diagonal()
    assert list(bad._spectra) == [SINGLE, COMPUTE]


@pytest.mark.usefixtures("always_tried")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("share", [0.6, 0.2], ids=["most stay", "few stay"])
def test_a_joint_step_from_float32_is_that_of_float64(kind, damping, share, monkeypatch):
    """One mask in a wide block: a float32 Gram matrix, refined; what does not converge is done again in float64."""
    rows, generator = wide_rows(40, 900, kind), torch.Generator().manual_seed(1)
    weights, keep = torch.randn(900, generator=generator), torch.rand(900, generator=generator) < share
    tried = []
    monkeypatch.setattr(joint, "refined", lambda *given: tried.append(precision.refined(*given)) or tried[-1])
    try:
        found = EmpiricalFisher(rows, block(900)).joint_steps(weights, [keep], damping)[0]
    except NumericalError:
        assert damping == 1e-8
        return
    assert tried or kind in ("nearly parallel", "one rank and noise")  # their float32 matrix need not be definite
    wanted = EmpiricalFisher(rows.double(), block(900)).joint_steps(weights, [keep], damping)[0]
    assert torch.equal(found[~keep], -weights[~keep].double())
    assert norm_error(found[keep], wanted[keep]) <= 1e-9
    if damping == 1.0:
        assert tried[0] is not None
        assert not torch.equal(found, wanted)


@pytest.mark.usefixtures("always_tried")
def test_a_joint_step_does_not_remember_other_weights():
    """What is kept of one step serves the next at other masks and dampings, not at other weights, changed in place or not."""
    rows, generator = wide_rows(40, 900, "plain"), torch.Generator().manual_seed(1)
    weights = torch.randn(900, generator=generator).double()
    fisher = EmpiricalFisher(rows, block(900))
    kept = []
    for share, damping, factor in ((0.2, 1.0, 1.0), (0.3, 0.1, 1.0), (0.3, 0.1, -2.0), (0.1, 1.0, 1.0)):
        weights *= factor
        keep = torch.rand(900, generator=generator) < share
        found = fisher.joint_steps(weights, [keep], damping)[0]
        wanted = EmpiricalFisher(rows, block(900)).joint_steps(weights.clone(), [keep], damping)[0]
        assert torch.equal(found, wanted)
        kept.append(fisher._projections[0][1])
    assert [second is first for first, second in itertools.pairwise(kept)] == [True, False, True]


@pytest.mark.usefixtures("always_tried")
def test_a_joint_step_where_the_removed_weights_hardly_matter():
    """What they do to the samples is then not taken from a difference; where they are zero already, nobody moves."""
    rows, generator = wide_rows(40, 900, "plain"), torch.Generator().manual_seed(1)
    keep = torch.rand(900, generator=generator) < 0.2
    weights = torch.where(keep, torch.randn(900, generator=generator), 1e-9 * torch.randn(900, generator=generator))
    found = EmpiricalFisher(rows, block(900)).joint_steps(weights, [keep], 0.1)[0]
    wanted = EmpiricalFisher(rows.double(), block(900)).joint_steps(weights, [keep], 0.1)[0]
    assert norm_error(found[keep], wanted[keep]) <= 1e-9
    assert not EmpiricalFisher(rows, block(900)).joint_steps(weights * keep, [keep], 0.1).any()


@pytest.mark.usefixtures("always_tried")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", [Solver.DUAL, Solver.SPECTRAL])
@pytest.mark.parametrize("damping", [1e-6, 1e-4, 1e-2])
def test_products_are_refined_to_float64(kind, solver, damping):
    """F⁻¹x as float64 gives it also for x among the gradients themselves, where nearly everything cancels."""
    rows = wide_rows(40, 900, kind)
    x = torch.cat([rows[:3].double().T, torch.ones(900, 1, dtype=torch.float64)], dim=1)
    wanted = dense_inverse(rows, block(900), damping) @ x
    found = EmpiricalFisher(rows, block(900)).inverse(damping, solver).apply(x)
    for column in range(x.shape[1]):
        assert norm_error(found[:, column], wanted[:, column]) <= (1e-6 if damping > 1e-5 else 1e-5)


@pytest.mark.usefixtures("always_tried")
def test_few_rows_and_very_many_columns():
    """Long sums are where float32 loses most: the bound must still hold, without a dense inverse to help."""
    size, damping = 600_000, 1e-3
    rows = torch.randn(8, size, generator=torch.Generator().manual_seed(0))
    rows[0, 0] = 4.0 * size**0.5
    exact = rows.double()
    gram = exact @ exact.T + 8 * damping * torch.eye(8, dtype=torch.float64)
    wanted = (1.0 - (exact * torch.linalg.solve(gram, exact)).sum(0)) / damping
    found = EmpiricalFisher(rows, block(size)).inverse(damping).diagonal()
    assert relative(found, wanted) <= 1e-4


def test_float32_is_not_tried_where_it_is_not_float32():
    """Reduced matmul precision, float64 rows, narrow groups and little work all mean float64."""
    group = Group(torch.ones(1, 100, 20_000), slice(0, 20_000), 0)
    assert precision.single_helps(group)
    assert not precision.single_helps(Group(group.rows.double(), group.columns, 0))
    assert not precision.single_helps(Group(group.rows[:, :, :700], group.columns, 0))
    assert not precision.single_helps(Group(group.rows[:, :10], group.columns, 0))
    torch.set_float32_matmul_precision("medium")
    try:
        assert not precision.single_helps(group)
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("size", [1, 127, 128, 129, 255, 300, 1000])
def test_tiles_cover_the_lower_triangle_once(size):
    """Every entry on or below the diagonal lies in exactly one tile, and no tile is all above it."""
    hits = torch.zeros(size, size, dtype=torch.int64)
    for rows, columns in lower_tiles(size):
        hits[rows, columns] += 1
    assert (hits.tril() == torch.ones(size, size, dtype=torch.int64).tril()).all()
    assert hits.max() == 1
    rows = torch.randn(1, size, 50, dtype=COMPUTE, generator=torch.Generator().manual_seed(0))
    total = torch.zeros(1, size, size, dtype=COMPUTE)
    add_lower_gram(total, rows)
    assert torch.allclose(mirrored(total), rows @ rows.mT, rtol=1e-12, atol=1e-12)


def test_a_grid_of_dampings_equals_each_alone():
    """One product for the whole grid gives what each damping gives by itself, with every solver."""
    rows = wide_rows(30, 200, "plain")
    blocks = Blocks((Run(0, 2, 90), Run(180, 1, 20)))
    for solver in Solver:
        fisher = EmpiricalFisher(rows, blocks)
        together = fisher.diagonals(DAMPINGS, solver)
        for damping, row in zip(DAMPINGS, together, strict=True):
            assert torch.allclose(row, fisher.inverse(damping, solver).diagonal(), rtol=1e-6, atol=0)


@cache
def real_rows(model: str) -> tuple[torch.Tensor, Workspace]:
    """400 gradient rows of a trained network."""
    workspace = Workspace()
    return workspace.rows(PruneConfig(model=model, num_samples=400, device="cpu"), Stopwatch()), workspace


@pytest.mark.parametrize(
    ("model", "block_size"), [("digits-mlp", 64), ("digits-mlp", "layer"), ("digits-cnn", 64), ("digits-cnn", 300)]
)
@pytest.mark.parametrize("num_rows", [50, 64, 400])
@pytest.mark.parametrize("solver", [Solver.AUTO, Solver.SPECTRAL])
def test_real_gradients(model, block_size, num_rows, solver):
    """Trained networks, N below, at and above B, λ from 1e-8 to 1: within 1e-4 of dense float64 inverses."""
    rows, workspace = real_rows(model)
    blocks = workspace.blocks(PruneConfig(model=model, block_size=block_size))
    fisher = EmpiricalFisher(rows[:num_rows], blocks)
    for damping in DAMPINGS:
        found = fisher.inverse(damping, solver).diagonal()
        for part in blocks.slices():
            wanted = dense_inverse(rows[:num_rows, part], block(part.stop - part.start), damping).diagonal()
            assert relative(found[part], wanted) <= 1e-4
