"""Batches of subset systems against one solve each."""

import pytest
import torch

from woodfisher_core.errors import NumericalError
from woodfisher_core.fisher import subsets
from woodfisher_core.fisher.subsets import batches, gathered, packed, solve

REFUSAL = NumericalError("refused")


def matrices(count: int, size: int) -> torch.Tensor:
    rows = torch.randn(count, size + 3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return rows.mT @ rows


@pytest.mark.parametrize("nbytes", [1, 8 * 4 * 81, 1 << 26])
def test_every_system_is_in_one_batch(nbytes, monkeypatch):
    """Batches hold each system of any size once, none of size zero, of similar sizes and within their bytes."""
    monkeypatch.setattr(subsets, "BATCH_BYTES", nbytes)
    sizes = torch.randint(0, 60, (300,), generator=torch.Generator().manual_seed(1))
    found = list(batches(sizes))
    assert torch.cat(found).sort().values.tolist() == sizes.nonzero().squeeze(1).tolist()
    for some in found:
        largest, smallest = int(sizes[some].max()), int(sizes[some].min())
        assert len(some) == 1 or 8 * len(some) * largest**2 <= nbytes
        assert largest <= 1.25 * smallest + 8
    assert len(found) < 20 or nbytes < 1 << 26


def test_nothing_to_solve():
    """Without a system there is no batch."""
    assert list(batches(torch.zeros(3, dtype=torch.int64))) == []


def test_each_system_is_its_own():
    """Gathered, padded and solved together, each subset has the solution of its own dense system, and zeros besides."""
    whole, generator = matrices(2, 9), torch.Generator().manual_seed(2)
    chosen = torch.rand(20, 9, generator=generator) < 0.5
    group = torch.randint(2, (20,), generator=generator)
    right = torch.randn(20, 9, generator=generator, dtype=torch.float64)
    index, valid = packed(chosen)
    got = solve(gathered(whole, group, index), valid, right.gather(1, index), REFUSAL)
    assert valid.sum(1).tolist() == chosen.sum(1).tolist()
    assert not got[~valid].any()
    placed = torch.zeros(20, 9, dtype=torch.float64).scatter_add(1, index, got)
    for row in range(20):
        picked = chosen[row].nonzero().squeeze(1)
        wanted = torch.linalg.solve(whole[group[row]][picked][:, picked], right[row][picked])
        assert torch.allclose(placed[row][picked], wanted, rtol=1e-10, atol=1e-12)
        assert not placed[row][~chosen[row]].any()


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_system_that_is_not_positive_definite(bad):
    """The given error is raised, unless the trouble lies outside the chosen rows and columns."""
    systems = matrices(3, 4)
    systems[1, 2, 2] = bad
    valid = torch.ones(3, 4, dtype=torch.bool)
    with pytest.raises(NumericalError, match="refused"):
        solve(systems, valid, torch.ones(3, 4, dtype=torch.float64), REFUSAL)
    valid[1, 2] = False
    assert solve(systems, valid, torch.ones(3, 4, dtype=torch.float64), REFUSAL).isfinite().all()
