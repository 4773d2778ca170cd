"""What is taken home can be read again by others: safetensors, ONNX's reference runtime, the command line, Jupyter."""

import argparse
import json
import shlex
from dataclasses import replace

import nbformat
import numpy as np
import onnx
import pytest
import torch
from executing import PLOTLY, executed
from onnx.reference import ReferenceEvaluator
from safetensors import safe_open
from safetensors.torch import load
from torch import nn

from woodfisher_core import cli
from woodfisher_core.commands.flags import method_options, network_options
from woodfisher_core.commands.prune import add_prune
from woodfisher_core.errors import InputError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.speed import pruned_network, smaller_network
from woodfisher_core.export import command_line, exchange, masks_bytes, notebook_bytes, onnx_bytes, pruned_bytes
from woodfisher_core.sampling import read_indices

CONFIG = PruneConfig(model="digits-cnn", num_samples=40, sparsity=0.6, held_out=100, device="cpu")
RUN = {"config": CONFIG.to_dict(), "accuracy": 97.5}


@pytest.fixture(scope="module")
def space() -> Workspace:
    return Workspace()


def test_the_pruned_network_as_bytes(space, tmp_path):
    """Every tensor of the network under its name, the masks beside them, the run in the metadata."""
    problem, outcome = space.problem(CONFIG), space.outcome(CONFIG)
    content = pruned_bytes(problem.model.state_dict(), problem.parameters, outcome.weights, outcome.mask.keep, RUN)
    tensors = load(content)
    wanted = pruned_network(space, CONFIG).state_dict()
    assert {name for name in tensors if not name.endswith(".mask")} == set(wanted)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in wanted.items())
    masks = {name.removesuffix(".mask"): tensor for name, tensor in tensors.items() if name.endswith(".mask")}
    assert all(torch.equal(tensors[name] != 0, mask) for name, mask in masks.items())
    (tmp_path / "file.safetensors").write_bytes(content)
    with safe_open(tmp_path / "file.safetensors", "pt") as file:
        assert json.loads(file.metadata()["run"]) == RUN
        assert PruneConfig.from_dict(json.loads(file.metadata()["config"])) == CONFIG


def test_the_masks_alone(space):
    problem, outcome = space.problem(CONFIG), space.outcome(CONFIG)
    masks = load(masks_bytes(problem.parameters, outcome.mask.keep, RUN))
    assert set(masks) == {f"{name}.mask" for name in problem.parameters.names}
    assert {mask.dtype for mask in masks.values()} == {torch.bool}
    assert sum(int(mask.sum()) for mask in masks.values()) == outcome.mask.kept


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn"])
def test_onnx_computes_the_same(space, model):
    """In ONNX's own reference runtime, for batches of any size, zeros included."""
    config = replace(CONFIG, model=model, dataset=None)
    network, images = pruned_network(space, config), space.problem(config).test.inputs
    model = onnx.load_from_string(onnx_bytes(network, images))
    onnx.checker.check_model(model, full_check=True)
    engine = ReferenceEvaluator(model)
    for batch in (images[:1], images[5:12]):
        (found,) = engine.run(None, {"images": batch.numpy()})
        np.testing.assert_allclose(found, network(batch).detach().numpy(), rtol=1e-4, atol=1e-5)
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    zeros = sum(int((array == 0).sum()) for array in stored if array.ndim > 1)
    assert zeros >= space.problem(config).parameters.num_prunable - space.outcome(config).mask.kept


def test_onnx_of_a_smaller_network(space):
    config = CONFIG.replace(method="structured", update=None, sparsity=0.5, damping=1e-2)
    network, images = smaller_network(space, config), space.problem(config).test.inputs[:6]
    (found,) = ReferenceEvaluator(onnx.load_from_string(onnx_bytes(network, images))).run(
        None, {"images": images.numpy()}
    )
    np.testing.assert_allclose(found, network(images).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(exchange, "NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match=r'no_such_package not installed.*pip install -e "\.\[export\]"'):
        onnx_bytes(nn.Linear(2, 2), torch.ones(1, 2))
    assert cli.main(["prune", "--model", "digits-mlp", "--onnx", "--output", str(tmp_path)]) != 0
    assert 'pip install -e ".[export]"' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_line_writes_onnx(capsys, tmp_path):
    flags = ["prune", "--model", "digits-mlp", "--method", "magnitude", "--num-samples", "20", "--onnx"]
    assert cli.main(flags) != 0
    assert "Give --output DIR" in capsys.readouterr().err
    assert cli.main([*flags, "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruned.onnx", "pruned.safetensors", "run.json"]
    onnx.checker.check_model(onnx.load(tmp_path / "pruned.onnx"))


def test_what_cannot_be_written_as_onnx_is_said():
    class Odd(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x  # which way it goes depends on the input

    with pytest.raises(InputError, match="ONNX: Odd cannot be written"):
        onnx_bytes(Odd(), torch.ones(2, 3))


@pytest.mark.parametrize(
    "config",
    [
        PruneConfig(),
        CONFIG,
        PruneConfig(model="digits-mlp", pattern="2:4", update="independent", update_scale=0.9, seed=3),
        PruneConfig(
            model="digits-cnn", exclude=("conv1", "fc"), labels="sampled", mini_batch=2, block_size=50, sparsity=1 / 3
        ),
        PruneConfig(
            model="digits-cnn", stages=4, fresh_samples=False, images=300, num_samples=100, batchnorm_images=100
        ),
        PruneConfig(
            model="digits-mlp", data_dir="/a folder", weights="/it's here.safetensors", damping=3e-7, held_out=5
        ),
        PruneConfig(model="digits-mlp", damping_scale="relative", gradient_precision="bfloat16", budget="flops"),
    ],
)
def test_the_command_line_gives_the_same_config(config):
    """Read by the program's own parser."""
    words = shlex.split(command_line(config))
    assert words[:4] == ["python", "-m", "woodfisher_core", "prune"]
    parser = argparse.ArgumentParser()
    add_prune(parser)
    options = parser.parse_args(words[4:])
    found = PruneConfig(held_out=options.held_out, **network_options(options), **method_options(options))
    assert close(found, config)


def close(found: PruneConfig, wanted: PruneConfig) -> bool:
    """Equal, but for the twelfth digit of the sparsity."""
    return abs(found.sparsity - wanted.sparsity) < 1e-11 and found.replace(sparsity=wanted.sparsity) == wanted


def test_own_samples_are_asked_for_by_file(tmp_path):
    line = command_line(PruneConfig(model="digits-mlp", num_samples=2, sample_indices=(4, 9)))
    assert line.endswith("--sample-indices indices.txt")
    (tmp_path / "indices.txt").write_text("4\n9\n")
    assert read_indices(str(tmp_path / "indices.txt")).tolist() == [4, 9]


def test_the_notebook_runs_and_gives_the_same_numbers(space, tmp_path):
    """Executed as it was written, it draws five charts and three of what was gained, and its numbers are those of the page."""
    config = CONFIG.replace(update="joint")
    pruned, mask = space.evaluation(config), space.outcome(config).mask
    shown = {"accuracy (%)": pruned.accuracy, "test loss (nats)": pruned.loss, "weights kept": mask.kept}
    content = notebook_bytes(space.resolve(config), shown, sparsities=(0.5, 0.9), batch=32)
    notebook = nbformat.reads(content.decode(), as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in executed(notebook, tmp_path).cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    titles = [o.data[PLOTLY]["layout"]["title"]["text"] for o in outputs if PLOTLY in o.get("data", {})]
    assert len(titles) == 8
    assert all(title.endswith("?") for title in titles)
    table = next(o.data["text/plain"] for o in outputs if "on the page" in o.get("data", {}).get("text/plain", ""))
    for row in table.splitlines()[1:]:
        page, here = map(float, row.split()[-2:])
        assert page == pytest.approx(here)


def test_a_notebook_refuses_other_weights(space):
    """The hashes are in it."""
    text = notebook_bytes(space.resolve(CONFIG), {"accuracy (%)": 1.0}).decode()
    assert space.problem(CONFIG).weights_hash in text
    assert space.problem(CONFIG).dataset.hash in text
