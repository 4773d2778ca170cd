"""``data import``: a file becomes a name, the list shows it, a refusal is one line."""

import re

import pytest

from woodfisher_core.cli import main
from woodfisher_core.own import sample_data, sample_weights


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "flag"),
    [("a.npz", sample_data("digits"), "--dataset"), ("a.safetensors", sample_weights("digits-mlp"), "--weights")],
)
def test_a_file_becomes_a_name_that_runs(name, content, flag, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert main(["data", "import", str(tmp_path / name)]) == 0
    own = re.match(r"own-[0-9a-f]{12}", capsys.readouterr().out).group()
    assert main(["data", "list"]) == 0
    assert (own in capsys.readouterr().out) == (flag == "--dataset")
    run = ["prune", "--model", "digits-mlp", "--method", "magnitude", "--sparsity", "0.5", "--device", "cpu", flag, own]
    assert main(run) == 0
    assert "97.20" in capsys.readouterr().out


def test_a_refusal_is_one_line(tmp_path, capsys):
    (tmp_path / "a.npz").write_bytes(b"no")
    assert main(["data", "import", str(tmp_path / "a.npz")]) == 2
    assert capsys.readouterr().err.startswith("error: data: the file is truncated or no zip archive")
    assert main(["data", "import", str(tmp_path / "b.npz")]) == 2
    assert "cannot read" in capsys.readouterr().err
