"""The scale benchmark: what it predicts, measures and counts, on a network small enough to know all of it."""

import json

import pytest
import torch
from torch import nn

from woodfisher_core.benchmarks import __main__ as program
from woodfisher_core.benchmarks import scale
from woodfisher_core.benchmarks.peak import OPEN_FILES
from woodfisher_core.benchmarks.timing import GemmRate
from woodfisher_core.memory import gib


@pytest.fixture
def small_scale(monkeypatch):
    """``scale`` on a network of 8,216 prunable weights, and a machine of 5 GFLOP/s."""

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Mean(), nn.Linear(8, 1000)
        )

    monkeypatch.setitem(scale.NETWORKS, "small", build)
    monkeypatch.setattr(scale, "gemm_rate", lambda device: GemmRate(2, 5.0, 2.0))


class Mean(nn.Module):
    """(n, c, h, w) to (n, c)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system does not list a process's open files")
def test_scale_says_what_was_predicted_and_what_came(small_scale, tmp_path, capsys):
    """Phases, the plan before the work, and a scratch file of G's bytes."""
    file = tmp_path / "result.json"
    arguments = ["scale", "--model", "small", "--num-samples", "40", "--block-size", "500", "--image-size", "32"]
    arguments += ["--storage", "spilled", "--scratch", str(tmp_path), "--update", "joint", "--device", "cpu"]
    assert program.main([*arguments, "--json", str(file)]) == 0
    out, err = capsys.readouterr()
    result = json.loads(file.read_text())
    size = 4 * 40 * 8216
    assert result["num_prunable"] == 8216
    assert result["predicted"]["disk_bytes"] == size
    # The plan tries the disk with a file of 32 MiB first, which is more than this G.
    assert size <= result["measured"]["disk_bytes"] <= (1 << 25) + 65536
    assert set(result["seconds"]) >= {"gradients", "inverse", "score", "update"}
    assert sum(result["seconds"].values()) <= result["wall_seconds"]
    share = result["share_of_float32_product_rate"]["inverse"]
    assert share == pytest.approx(result["operations"]["inverse"] / result["seconds"]["inverse"] / 5e9)
    assert result["plan"] in err
    assert "40 of 40 gradients" in err
    assert f"| disk | {gib(size)} |" in out


def test_scale_counts_its_operations(small_scale):
    """Gradients: a forward pass and the weights' part of a backward pass a sample, plus the inputs' of the last layer."""
    result = scale.run(
        "small", num_samples=10, block_size="layer", image_size=32, device="cpu", sparsity=0.5, update="none"
    )
    convolution, linear = 2 * 8 * 8 * 8 * 27, 2 * 8 * 1000
    assert result["operations"]["gradients"] == 10 * (2 * convolution + 3 * linear)
    assert result["operations"]["inverse"] == pytest.approx(2 * 100 * 8216 + 2 * 2 * 1000 / 3)
    assert result["sparsity"] == pytest.approx(0.5, abs=1e-3)


def test_progress_speaks_ten_times():
    """Of 400 rows in chunks of 7, once every tenth; a second pass speaks again."""
    said = []
    progress = scale._tenths(400, said.append)
    for _ in range(2):
        for done in [*range(7, 400, 7), 400]:
            progress(done)
    assert len(said) in range(20, 23)
    assert said[-1] == "400 of 400 gradients"
