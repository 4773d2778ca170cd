"""The mean gradient and the mean absolute one of a Fisher, wherever its rows are."""

import pytest
import torch
from cases import CASES, Case

from woodfisher_core.fisher import EmpiricalFisher, StreamedFisher, cut
from woodfisher_core.sources import Recomputed, Spilled

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_width = pytest.mark.parametrize("width", [1, 13, 10_000])
each_source = pytest.mark.parametrize("recomputed", [False, True], ids=["spilled", "recomputed"])


def wanted(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    exact = rows.double()
    return exact.mean(0), exact.abs().mean(0)


def agrees(fisher, rows: torch.Tensor) -> bool:
    mean, absolute = wanted(rows)
    scale = float(rows.double().abs().max()) or 1.0
    assert fisher.mean.dtype is fisher.mean_absolute.dtype is torch.float64
    assert fisher.mean.shape == fisher.mean_absolute.shape == (rows.shape[1],)
    return torch.allclose(fisher.mean, mean, rtol=1e-12, atol=1e-14 * scale) and torch.allclose(
        fisher.mean_absolute, absolute, rtol=1e-12, atol=0
    )


@each_case
def test_in_memory(case):
    """Both are plain means over the rows; the one without signs is never smaller, and larger where they differ."""
    rows = case.rows()
    before = rows.clone()
    fisher = EmpiricalFisher(rows, case.blocks)
    assert agrees(fisher, rows)
    assert torch.equal(rows, before)
    assert (fisher.mean_absolute >= fisher.mean.abs() * (1 - 1e-12)).all()
    if len(rows) > 1:
        assert (fisher.mean_absolute > 1.01 * fisher.mean.abs()).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(dtype):
    """Of the rows as they are kept, summed in float64."""
    rows = CASES[3].rows().to(dtype)
    assert agrees(EmpiricalFisher(rows, CASES[3].blocks), rows)


def streamed(case: Case, rows: torch.Tensor, width: int, recomputed: bool) -> StreamedFisher:
    spans = cut(case.blocks, len(rows), width)
    if recomputed:
        places = {layer.name: layer.slice for layer in case.parameters.layers}
        make = lambda own: iter([torch.cat([rows[:, places[la.name]] for la in own.layers], dim=1)])  # noqa: E731
        source = Recomputed(make, case.parameters, len(rows), rows.dtype, rows.device)
    else:
        parts = [part for span in spans for part in span.parts]
        source = Spilled(rows.split(7), len(rows), parts, rows.dtype, rows.device)
    return StreamedFisher(source, case.blocks, spans)


@each_case
@each_width
@each_source
def test_in_parts(case, width, recomputed):
    """The same from a file or made anew, however narrow the parts."""
    rows = case.rows()
    assert agrees(streamed(case, rows, width, recomputed), rows)
