"""Weights that users bring: bit for bit the same run, and every hostile file told kindly without opening it."""

import io
import json
import pickle

import pytest
import torch
from hostile import tensors, zipped
from safetensors.torch import load, save

from woodfisher_core.checkpoints import load_state, state_hash
from woodfisher_core.data.brought import WEIGHTS, own_file
from woodfisher_core.errors import InputError
from woodfisher_core.models import MODELS, get_model
from woodfisher_core.own import bring_weights, remove, sample_weights
from woodfisher_core.own.limits import UPLOAD_BYTES


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def changed(name: str, change) -> bytes:
    """The shipped digits-cnn with one tensor changed."""
    state = load(sample_weights("digits-cnn"))
    state[name] = change(state[name])
    return save(state)


@pytest.mark.parametrize("model", list(MODELS))
def test_shipped_weights_come_back_bit_for_bit(model):
    """Each is recognised by its shapes; what is kept is the shipped state, under the name of its own hash."""
    brought = bring_weights(sample_weights(model), f"C:\\mine\\{model}.safetensors")
    state = load_state(get_model(model).shipped_weights())
    own = load_state(own_file(WEIGHTS, brought.name))
    assert brought.models == (model,)
    assert all(torch.equal(own[name], tensor) for name, tensor in state.items())
    assert brought.name == f"own-{state_hash(own)[:12]}"
    assert get_model(model).weights_at(brought.name) == own_file(WEIGHTS, brought.name)
    assert bring_weights(sample_weights(model), "other.safetensors").name == brought.name
    assert remove(WEIGHTS, brought.name)
    with pytest.raises(InputError, match="not on this machine"):
        get_model(model).weights_at(brought.name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_read_as_float32(dtype):
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in load(sample_weights("digits-cnn")).items()}
    brought = bring_weights(save(state), "half.safetensors")
    own = load_state(own_file(WEIGHTS, brought.name))
    assert torch.equal(own["conv1.weight"], state["conv1.weight"].float())
    assert "read as float32" in brought.said[0]


def torch_zip() -> bytes:
    file = io.BytesIO()
    torch.save({"fc1.weight": torch.zeros(2)}, file)
    return file.getvalue()


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty": (b"", "an empty file"),
    "10 GB header": ((10_000_000_000).to_bytes(8, "little") + b"{" + b" " * 99, "head alone is 10.0 GB long"),
    "header cut": (sample_weights("digits-cnn")[:100], "truncated: its head needs"),
    "tensors cut": (sample_weights("digits-cnn")[:-100], "truncated: its tensors take"),
    "too long": (sample_weights("digits-cnn") + b"more", "longer than it says"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle. Opening a pickle can run any program"),
    "torch": (torch_zip(), "a zip archive: a PyTorch checkpoint"),
    "zip": (zipped([("a", b"b")]), "a zip archive"),
    "text": (b"<html>" * 20, "something else, or a damaged file"),
    "no json": ((20).to_bytes(8, "little") + b"{" + b"x" * 30, "no JSON table"),
    "deep json": ((100_000).to_bytes(8, "little") + b'{"a":' * 20_000, "no JSON table"),
    "huge number": ((20_002).to_bytes(8, "little") + b'{"a":' + b"9" * 19_996 + b"}", "no JSON table"),
    "list": (tensors([1]), "got something else"),
    "no tensors": (tensors({"__metadata__": {}}), "holds no tensors"),
    "name twice": ((57 * 2 + 2).to_bytes(8, "little") + b"{" + b'"a": 1, "a": 2}'.ljust(115), "names a tensor twice"),
    "no table": (tensors({"a": 3}), "damaged at “a”"),
    "negative": (tensors({"a": GOOD | {"shape": [-2]}}), "damaged at “a”"),
    "boolean": (tensors({"a": GOOD | {"shape": [True]}}), "damaged at “a”"),
    "vast shape": (tensors({"a": GOOD | {"shape": [1 << 40, 1 << 40]}}, b" " * 8), "the file's head gives it 8"),
    "whole numbers": (tensors({"a": GOOD | {"dtype": "I32"}}, b" " * 8), "Whole numbers are no weights"),
    "picture in a name": (tensors({"![a](//b.c/d)<i>": 3}), "damaged at “!·a·(//b.c/d)·i·”"),
    "unknown type": (tensors({"a": GOOD | {"dtype": "F8_E4M3"}}, b" " * 2), "got “F8_E4M3”"),
    "overlap": (tensors({"a": GOOD, "b": GOOD}, b" " * 8), "overlap or leave gaps"),
    "gap": (tensors({"a": GOOD | {"data_offsets": [8, 16]}}, b" " * 16), "overlap or leave gaps"),
    "other names": (save({"x": torch.zeros(3)}), "fits none of digits-mlp, digits-cnn"),
    "shape": (changed("fc.weight", lambda t: t[:, :16].clone()), "fc.weight: expected shape 10×32, got 10×16"),
    "nan": (changed("fc.weight", lambda t: t * float("nan")), "fc.weight holds 320 values that are NaN or infinite"),
    "beyond": (changed("fc.bias", lambda t: t.double() + 1e300), "beyond what float32 can"),
    "variance": (changed("bn1.running_var", lambda t: -t), "bn1.running_var holds a negative variance"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_kindly(case, tmp_path):
    raw, words = HOSTILE[case]
    with pytest.raises(InputError) as refusal:
        bring_weights(raw, "mine.safetensors")
    assert words in str(refusal.value)
    assert len(str(refusal.value)) < 600
    assert not list(tmp_path.rglob("*.safetensors*"))


def test_too_large_a_file_is_refused():
    with pytest.raises(InputError, match=r"at most 50\.0 MB, got 50\.0 MB"):
        bring_weights(b"\0" * (UPLOAD_BYTES + 1), "mine.safetensors")


def test_another_architecture_is_named():
    """What was chosen does not fit; what does is said."""
    with pytest.raises(InputError, match="It fits digits-cnn: choose that network"):
        bring_weights(sample_weights("digits-cnn"), "mine.safetensors", model="mlpnet")


def test_a_network_pruned_here_comes_back():
    """Masks stand beside the weights in what is taken home."""
    state = load(sample_weights("digits-mlp"))
    state["fc1.weight.mask"] = state["fc1.weight"].abs() > 0.1
    brought = bring_weights(save(state), "pruned.safetensors")
    own = load_state(own_file(WEIGHTS, brought.name))
    assert torch.equal(own["fc1.weight"], state["fc1.weight"] * state["fc1.weight.mask"])
    assert set(own) == set(load(sample_weights("digits-mlp")))


@pytest.mark.parametrize(
    ("given", "shown"), [("../../etc/passwd.safetensors", "passwd"), ("[a](http://b).x", "b)"), ("***.zip", "mine")]
)
def test_labels_are_plain(given, shown):
    assert bring_weights(sample_weights("digits-mlp"), given).label == shown
    assert json.dumps(shown)
