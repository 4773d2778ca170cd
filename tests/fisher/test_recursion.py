"""The paper's recursion against the closed form it equals."""

import pytest
import torch
from cases import CASES
from oracle import dense_inverse, norm_error, relative

from woodfisher_core.fisher import Blocks, EmpiricalFisher, recursive_inverse
from woodfisher_core.fisher.blocks import Run


@pytest.mark.parametrize("case", [c for c in CASES if c.block == "network"], ids=str)
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_recursion_equals_closed_form(case, damping):
    """In float64 the N rank-one updates reach the inverse, and so the operator's diagonal."""
    rows = case.rows().double()
    recursive = recursive_inverse(rows, damping)
    assert norm_error(recursive, dense_inverse(rows, case.blocks, damping)) <= 1e-8
    assert relative(EmpiricalFisher(rows, case.blocks).inverse(damping).diagonal(), recursive.diagonal()) <= 1e-7


def test_float32_recursion_loses_what_the_closed_form_keeps():
    """At λ = 1e-8 the float32 recursion is off by more than 1e-3 where the operator stays within 1e-6."""
    rows = torch.randn(100, 40, generator=torch.Generator().manual_seed(0))
    blocks = Blocks((Run(0, 1, 40),))
    wanted = dense_inverse(rows, blocks, 1e-8).diagonal()
    assert relative(recursive_inverse(rows, 1e-8).diagonal().double(), wanted) > 1e-3
    assert relative(EmpiricalFisher(rows, blocks).inverse(1e-8).diagonal(), wanted) <= 1e-6
