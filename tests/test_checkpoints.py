"""Weights from files: what is read, what is refused, and that nothing a file brings ever runs."""

import io
import os
import pathlib
import pickle
import re
import zipfile

import pytest
import torch
from cases import network
from safetensors.torch import save_file

from woodfisher_core.checkpoints import load_into, load_state, state_hash
from woodfisher_core.errors import InputError


class Touch:
    """Pickles into a call that would create ``path``."""

    def __init__(self, path: pathlib.Path, by: str):
        self.path, self.by = path, by

    def __reduce__(self):
        if self.by == "os.system":
            return os.system, (f"touch {self.path}",)
        if self.by == "eval":
            return eval, (f"__import__('pathlib').Path({str(self.path)!r}).touch()",)
        return pathlib.Path.touch, (self.path,)


def state(kind: str = "mlp") -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network(kind).state_dict().items()}


def equal(first, second) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def save(content, path: pathlib.Path, form: str) -> pathlib.Path:
    """``content`` in one of the formats people have."""
    if form == "safetensors":
        save_file(content, str(path))
    elif form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.safetensors", "safetensors")]
    + [(f"a{suffix}", form) for suffix in (".pt", ".pth", ".ckpt", ".tar", ".bin") for form in ("zip", "legacy")],
)
def test_every_format_gives_the_tensors(tmp_path, name, form):
    """All suffixes, and both of PyTorch's formats."""
    assert equal(load_state(save(state("conv"), tmp_path / name, form)), state("conv"))


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model", "net"])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_training_checkpoints(tmp_path, key, form):
    """The state dict is found beside an optimizer's, also one that mentions its class, which stays inert."""
    optimizer = torch.optim.Adam(network("mlp").parameters())
    content = {key: state(), "epoch": 3, "optimizer": optimizer.state_dict(), "class": torch.optim.SGD}
    assert equal(load_state(save(content, tmp_path / "a.ckpt", form)), state())


def test_wrapper_names_and_masks_are_undone(tmp_path):
    """Data-parallel prefixes and the official code's masking layers: the weight comes back multiplied by its mask."""
    own = state()
    mask = torch.rand_like(own["0.weight"]).round()
    wrapped = {"module.module." + name.replace(".", "._layer."): tensor for name, tensor in own.items()}
    wrapped["module.module.0._weight_mask"] = mask
    wrapped["module.module.0._bias_mask"] = torch.zeros(10)
    loaded = load_state(save(wrapped, tmp_path / "a.pt", "zip"))
    own["0.weight"] *= mask
    own["0.bias"] *= 0
    assert equal(loaded, own)


def test_own_masks_are_applied_and_left_out(tmp_path):
    """``<name>.mask`` of an exported network is no weight; a float tensor of that name stays what it is."""
    own = state()
    mask = torch.rand_like(own["0.weight"]) > 0.5
    path = save(
        {**own, "0.weight.mask": mask, "2.weight.mask": torch.ones(5, 10)}, tmp_path / "a.safetensors", "safetensors"
    )
    loaded = load_state(path)
    assert torch.equal(loaded["0.weight"], own["0.weight"] * mask)
    assert set(loaded) == {*own, "2.weight.mask"}


@pytest.mark.parametrize("by", ["os.system", "eval", "Path.touch"])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_checkpoint_never_runs(tmp_path, by, form, nested):
    """A file that would call a function is refused, the function named, and nothing it wanted happens."""
    victim = tmp_path / "created"
    payload = Touch(victim, by)
    path = save({**state(), "payload": [payload]} if nested else payload, tmp_path / "evil.pt", form)
    name = {"os.system": "(posix|nt).system", "eval": "builtin(s|__).eval", "Path.touch": "pathlib.*Path"}[by]
    with pytest.raises(InputError, match=f"evil.pt is refused: it would run .*{name}"):
        load_state(path)
    assert not victim.exists()
    pickle.loads(pickle.dumps(payload))  # noqa: S301 - proves that the payload is alive
    assert victim.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_refused(tmp_path, protocol):
    """Old and new pickles alike, by name."""
    victim = tmp_path / "created"
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Touch(victim, "os.system"), protocol=protocol))
    with pytest.raises(InputError, match=r"would run (posix|nt)\.system"):
        load_state(tmp_path / "evil.ckpt")
    assert not victim.exists()


def test_code_that_poses_as_an_optimizer_never_runs(tmp_path):
    """Only the name torch.optim.* is stood in for; a global of that module that is no class does nothing either."""
    victim = tmp_path / "created"
    stream = b"ctorch.optim.sgd\nos.system\n(S'touch " + str(victim).encode() + b"'\ntR."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", stream)
        archive.writestr("a/version", "3\n")
    (tmp_path / "evil.pt").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match=r"evil.pt"):
        load_state(tmp_path / "evil.pt")
    assert not victim.exists()


@pytest.mark.parametrize(("name", "form"), [("a.safetensors", "safetensors"), ("a.ckpt", "zip"), ("a.ckpt", "legacy")])
def test_truncated_at_any_byte(tmp_path, name, form):
    """Wherever a file ends early, the message says so; no other error ever leaves."""
    data = save(state(), tmp_path / name, form).read_bytes()
    lengths = sorted({*range(0, len(data) - 1, max(1, len(data) // 60)), 1, 2, 8, 9, len(data) - 1})
    for length in lengths:
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(InputError, match=rf"{re.escape(name)} is .*Copy it again"):
            load_state(tmp_path / name)


@pytest.mark.parametrize(("name", "form"), [("a.safetensors", "safetensors"), ("a.ckpt", "zip"), ("a.ckpt", "legacy")])
def test_damaged_bytes(tmp_path, name, form):
    """A changed byte gives tensors or an InputError, never another exception."""
    data = bytearray(save(state(), tmp_path / name, form).read_bytes())
    outcomes = set()
    for position in range(0, len(data), max(1, len(data) // 150)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        (tmp_path / name).write_bytes(damaged)
        try:
            loaded = load_state(tmp_path / name)
            outcomes.add(all(isinstance(tensor, torch.Tensor) for tensor in loaded.values()))
        except InputError as error:
            outcomes.add(name in str(error))
    assert outcomes == {True}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3}, "holds no state dict; expected tensors by name"),
        ([1, 2], "holds no state dict"),
        (torch.ones(3), "holds no state dict"),
    ],
)
def test_no_state_dict(tmp_path, content, message):
    """A checkpoint without named tensors is refused."""
    with pytest.raises(InputError, match=message):
        load_state(save(content, tmp_path / "a.pt", "zip"))


def test_missing_file_and_unknown_suffix(tmp_path):
    """The path, or the suffixes that are read, are in the message."""
    with pytest.raises(InputError, match=r"expected a file at .*nowhere.pt.* --weights"):
        load_state(tmp_path / "nowhere.pt")
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"expected .safetensors or one of .pt, .pth, .ckpt, .tar, .bin, got 'a.npz'"):
        load_state(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("2.bias"), "f.pt does not fit Sequential: lacks 2.bias"),
        (lambda s: s.update(extra=torch.ones(1)), "has extra, which the model does not"),
        (lambda s: s.update({"0.weight": torch.ones(7, 6)}), r"0.weight: expected shape \(10, 6\), got \(7, 6\)"),
        (lambda s: s["0.weight"][0].fill_(float("nan")), "0.weight holds 6 values that are NaN or infinite"),
        (lambda s: s["4.bias"].fill_(float("inf")), "4.bias holds 3 values that are NaN or infinite"),
        (lambda s: [s.pop(n) for n in list(s)] and s.update(a=torch.ones(1)), "and 3 more"),
    ],
)
def test_state_that_does_not_fit(change, message):
    """Names, shapes and values are checked before anything is copied."""
    model = network("mlp")
    before, other = state(), state()
    change(other)
    with pytest.raises(InputError, match=message):
        load_into(model, other, "f.pt")
    assert equal(model.state_dict(), before)


def test_hash_depends_on_content_only():
    """The same tensors hash alike in any order and layout; a changed value, shape, name or dtype does not."""
    own = state("conv")
    same = {name: own[name].clone() for name in reversed(own)}
    same["fc.weight"] = own["fc.weight"].T.contiguous().T
    assert state_hash(same) == state_hash(own)
    changes = [
        {**own, "fc.weight": own["fc.weight"] + 1},
        {**own, "fc.weight": own["fc.weight"].reshape(-1)},
        {**own, "fc.weight": own["fc.weight"].double()},
        {("renamed" if name == "fc.weight" else name): tensor for name, tensor in own.items()},
    ]
    assert len({state_hash(s) for s in (own, *changes)}) == 5


def test_official_checkpoint(shared_data):
    """The authors' training checkpoint, with its pickled optimizer class, gives the three layers of MLPNet."""
    loaded = load_state(shared_data / "checkpoints" / "mnist_25_epoch_93.97.ckpt")
    assert {name: tuple(t.shape) for name, t in loaded.items()} == {
        "fc1.weight": (40, 784),
        "fc2.weight": (20, 40),
        "fc3.weight": (10, 20),
    }
