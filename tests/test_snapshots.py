"""Snapshots: everything comes back bit for bit, damage is told, and a crash leaves the old file or the new one."""

import json
import math
import os

import pytest
import torch
from cases import network
from safetensors.torch import save_file

from woodfisher_core.errors import InputError
from woodfisher_core.options import Scope
from woodfisher_core.snapshots import check_same, plain, read_snapshot, write_snapshot

TENSORS = {
    "weight": torch.randn(40, 30, generator=torch.Generator().manual_seed(0)),
    "odd": torch.tensor([0.0, -0.0, math.nan, math.inf, 1e-42]),
    "double": torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    "half": torch.randn(7, generator=torch.Generator().manual_seed(2)).bfloat16(),
    "keep": torch.tensor([True, False, True]),
    "state": torch.Generator().manual_seed(5).get_state(),
    "count": torch.tensor(17),
    "empty": torch.zeros(0, 3),
}
RUN = {"settings": {"epochs": 3, "name": "λ"}, "records": [{"loss": 0.1 + 0.2, "before": None}]}


def as_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_round_trip(tmp_path):
    """Types, shapes, bits (−0, NaN, subnormal numbers) and JSON values; the folder is made, nothing else is left."""
    path = tmp_path / "new" / "run.safetensors"
    write_snapshot(path, TENSORS, RUN)
    tensors, run = read_snapshot(path)
    assert run == RUN
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert as_bytes(tensors[name]) == as_bytes(tensor)
    assert os.listdir(path.parent) == ["run.safetensors"]


def test_tied_and_transposed_tensors(tmp_path):
    """Tensors that share memory or are views are written as they read."""
    state = dict(network("tied").state_dict()) | {"turned": TENSORS["weight"].T}
    write_snapshot(tmp_path / "run", state, {})
    tensors, _ = read_snapshot(tmp_path / "run")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())


def test_what_was_read_is_apart_from_the_file(tmp_path):
    """Whatever becomes of the file does not change tensors read before."""
    path = tmp_path / "run"
    write_snapshot(path, {"x": torch.zeros(5000)}, {})
    tensors, _ = read_snapshot(path)
    write_snapshot(path, {"x": torch.ones(5000)}, {})
    again, _ = read_snapshot(path)
    with path.open("r+b") as file:  # in place, as no snapshot is written
        file.write(b"\0" * path.stat().st_size)
    assert not tensors["x"].any()
    assert again["x"].all()


def test_crash_while_writing_leaves_the_old_one(tmp_path, monkeypatch):
    """Up to the renaming the old file stands; what the crash left beside it does not disturb the next writing."""
    path = tmp_path / "run"
    write_snapshot(path, TENSORS, {"epoch": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_snapshot(path, TENSORS, {"epoch": 2})
    assert read_snapshot(path)[1] == {"epoch": 1}
    (tmp_path / "run.part").write_bytes(b"half of a file")
    write_snapshot(path, TENSORS, {"epoch": 3})
    assert read_snapshot(path)[1] == {"epoch": 3}
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_truncated(tmp_path, share):
    """A file cut anywhere is refused, with what to do."""
    path = tmp_path / "run"
    write_snapshot(path, TENSORS, RUN)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"run is truncated or no snapshot .*Remove the file to start afresh"):
        read_snapshot(path)


def test_flipped_bits_are_told(tmp_path):
    """A wrong bit in any byte of header, settings or tensors refuses the file."""
    path = tmp_path / "run"
    write_snapshot(path, {"x": TENSORS["double"], "keep": TENSORS["keep"]}, RUN)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match="snapshot: "):
            read_snapshot(path)
    path.write_bytes(whole)
    assert read_snapshot(path)[1] == RUN


def test_other_files(tmp_path):
    """Weights, text and folders are no snapshots."""
    save_file({"x": torch.ones(3)}, str(tmp_path / "weights"), metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"no snapshot of a run, or of another version; .* got 'pt'"):
        read_snapshot(tmp_path / "weights")
    save_file({"x": torch.ones(3)}, str(tmp_path / "bare"))
    with pytest.raises(InputError, match=r"no snapshot of a run, or of another version; .* got None"):
        read_snapshot(tmp_path / "bare")
    (tmp_path / "text").write_text("hello\n" * 100)
    for name in ("text", ".", "missing"):
        with pytest.raises(InputError, match="is truncated or no snapshot"):
            read_snapshot(tmp_path / name)


def test_place_that_cannot_be_written(tmp_path):
    """Said with the path."""
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "run", tmp_path):
        with pytest.raises(InputError, match=r"snapshot: cannot write .*Choose another place"):
            write_snapshot(place, TENSORS, RUN)
    assert not list(tmp_path.parent.glob("*.part"))


def test_settings_that_differ_are_named():
    """Each with both values, also where one side lacks it; equal ones say nothing, tuples and enums as JSON."""
    here = plain({"epochs": 6, "exclude": ("fc",), "scope": Scope.LAYER, "seed": 0})
    assert here == {"epochs": 6, "exclude": ["fc"], "scope": "layer", "seed": 0}
    check_same("run", here, json.loads(json.dumps(here)))
    there = here | {"epochs": 5, "scope": "global", "old": 1.5}
    wanted = r"run was made by another run: epochs 5 \(here 6\), scope \"global\" \(here \"layer\"\), old 1.5 \(here null\)\."
    with pytest.raises(InputError, match=wanted):
        check_same("run", here, there)
    with pytest.raises(InputError, match=r"weights \"aaaaaaaaaaaaaaa… \(here \"bbbbbbbbbbbbbbb…\)"):
        check_same("run", {"weights": "b" * 64}, {"weights": "a" * 64})
