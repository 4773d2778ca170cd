"""The command line: one JSON object, every option in the help, exports that load again."""

import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from woodfisher_core import cli
from woodfisher_core.checkpoints import state_hash
from woodfisher_core.data import get_dataset
from woodfisher_core.evaluation import evaluate
from woodfisher_core.experiments import PruneConfig
from woodfisher_core.experiments.report import PHASES
from woodfisher_core.methods import METHODS
from woodfisher_core.models import MODELS
from woodfisher_core.prune_options import PruneOptions
from woodfisher_core.store import Store
from woodfisher_core.structured import shrunk

SMALL = ("prune", "--model", "digits-cnn", "--num-samples", "60", "--held-out", "50", "--sparsity", "0.7")
KEYS = {
    "dense_accuracy",
    "accuracy",
    "sparsity",
    "kept",
    "num_prunable",
    "smaller",
    "predicted_loss_change",
    "loss_change",
    "seconds",
    "peak_memory_bytes",
    "config",
}
PRUNE_OPTIONS = [
    "--model",
    "--dataset",
    "--data-dir",
    "--weights",
    "--exclude",
    "--method",
    "--sparsity",
    "--pattern",
    "--budget",
    "--flops-power",
    "--stages",
    "--stage-shape",
    "--fixed-samples",
    "--batchnorm-images",
    "--images",
    "--probes",
    "--gradient-precision",
    "--scope",
    "--update",
    "--update-scale",
    "--num-samples",
    "--mini-batch",
    "--labels",
    "--sample-indices",
    "--damping",
    "--damping-scale",
    "--block-size",
    "--solver",
    "--held-out",
    "--seed",
    "--device",
    "--memory-budget",
    "--output",
    "--store",
    "--json",
]


def run_json(capsys, *arguments: str) -> dict:
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_real_program():
    """``python -m woodfisher_core prune --json`` as a process of its own: one JSON line on standard output, status 0."""
    done = subprocess.run([sys.executable, "-m", "woodfisher_core", *SMALL, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert set(result) >= KEYS
    assert set(result["seconds"]) == set(PHASES)
    assert all(result["seconds"][phase] > 0 for phase in ("gradients", "inverse", "score", "update", "evaluate"))
    assert result["seconds"]["BatchNorm"] is None  # not asked for
    assert result["peak_memory_bytes"] > 0


def test_a_reader_that_leaves_is_no_error():
    """As under ``| head``: nothing is said, and shells are told why it ended."""
    program = subprocess.Popen(
        [sys.executable, "-m", "woodfisher_core", "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.close()
    said = program.stderr.read().decode()
    program.stderr.close()
    assert (program.wait(), said) == (cli.READER_GONE, "")


def test_the_real_program_refuses():
    """A bad value ends the process with status 2, one line on standard error and nothing on standard output."""
    arguments = [sys.executable, "-m", "woodfisher_core", *SMALL, "--sparsity", "2", "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: sparsity: .* got 2.0.*\n", done.stderr)


ABLE = [(name, str(u)) for name, method in METHODS.items() if not method.largest for u in method.updates]


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.largest])
def test_methods_for_small_networks(capsys, method):
    """Refused where there are too many weights, with how many they take; run where layers are left out."""
    assert cli.main([*SMALL, "--method", method, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{METHODS[method].largest:,}" in captured.err
    small = run_json(capsys, *SMALL, "--method", method, "--damping", "10", "--exclude", "conv*")
    assert small["num_prunable"] <= METHODS[method].largest
    assert small["sparsity"] == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(("method", "update"), ABLE)
def test_json_of_every_method(capsys, method, update):
    """All documented keys; predictions are null only where no gradients were used."""
    result = run_json(capsys, *SMALL, "--method", method, "--update", update)
    assert set(result) >= KEYS
    assert result["num_prunable"] == 6152
    assert result["kept"] == sum(row["kept"] for row in result["layers"])
    assert result["sparsity"] == pytest.approx(1 - result["kept"] / 6152)
    assert 0 <= result["accuracy"] <= result["dense_accuracy"] == pytest.approx(98.4)
    assert set(result["loss_change"]) == {"held_out", "fisher_samples"}
    assert all(isinstance(value, float) for value in result["loss_change"].values())
    predicted = result["predicted_loss_change"]
    if not PruneOptions(method=method, update=update).uses_gradients:
        assert predicted is None
    else:
        for samples in ("held_out", "fisher_samples"):
            terms = predicted[samples]
            assert terms["total"] == pytest.approx(terms["first_order"] + terms["second_order"])
    assert result["config"]["method"] == method
    assert PruneConfig.from_dict(result["config"]).key == result["config_key"]


def test_the_damping_in_force_is_reported(capsys):
    """Given itself, as a multiple of the mean curvature, or not used at all; asking for it by its value is the same run."""
    plain = run_json(capsys, *SMALL, "--damping", "0.5")
    assert plain["effective_damping"] == 0.5
    relative = run_json(capsys, *SMALL, "--damping", "0.5", "--damping-scale", "relative")
    found = relative["effective_damping"]
    assert found != 0.5
    same = run_json(capsys, *SMALL, "--damping", repr(found))
    assert (same["accuracy"], same["kept"]) == (relative["accuracy"], relative["kept"])
    assert same["predicted_loss_change"] == relative["predicted_loss_change"]
    assert run_json(capsys, *SMALL, "--method", "diagonal-fisher")["effective_damping"] is None
    assert cli.main([*SMALL, "--damping", "0.5", "--damping-scale", "relative"]) == 0
    assert f"λ = {found:.3e}, 0.5 × the mean curvature" in capsys.readouterr().out


def test_no_held_out_samples(capsys):
    """Without held-out samples their figures are null, not zero."""
    result = run_json(capsys, *SMALL, "--held-out", "0")
    assert result["loss_change"]["held_out"] is None
    assert result["predicted_loss_change"]["held_out"] is None


def test_output_loads_again(capsys, tmp_path):
    """The exported weights are zero exactly off the masks, and pruning nothing off them reads the same accuracy."""
    result = run_json(capsys, *SMALL, "--output", str(tmp_path / "out"))
    tensors = load_file(str(tmp_path / "out" / "pruned.safetensors"))
    names = {name for name in tensors if not name.endswith(".mask")}
    model = MODELS["digits-cnn"].build()
    model.load_state_dict({name: tensors[name] for name in names})
    masks = {name.removesuffix(".mask"): mask for name, mask in tensors.items() if name.endswith(".mask")}
    assert set(masks) == {"conv1.weight", "conv2.weight", "conv3.weight", "fc.weight"}
    for name, mask in masks.items():
        assert mask.dtype == torch.bool
        assert torch.equal(tensors[name] != 0, mask)
    assert sum(int(mask.sum()) for mask in masks.values()) == result["kept"]
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == result
    again = ("--weights", str(tmp_path / "out" / "pruned.safetensors"), "--method", "magnitude", "--sparsity", "0")
    reloaded = run_json(capsys, *SMALL, *again)
    assert reloaded["dense_accuracy"] == reloaded["accuracy"] == result["accuracy"]
    assert reloaded["config"]["weights_hash"] == state_hash({name: tensors[name] for name in names})


def test_prune_keeps_its_run(capsys, tmp_path):
    """Standard output says what it says without a store; standard error says whether the run was there."""
    numbers = lambda found: {n: v for n, v in found.items() if n not in ("seconds", "peak_memory_bytes")}  # noqa: E731
    flags = (*SMALL, "--json", "--store", str(tmp_path / "runs.sqlite"))
    plain, said = run_json(capsys, *SMALL), []
    for _ in range(2):
        assert cli.main(list(flags)) == 0
        captured = capsys.readouterr()
        assert numbers(json.loads(captured.out)) == numbers(plain)
        said.append(captured.err)
    assert "kept as run 1" in said[0]
    assert "run 1 is in the store already" in said[1]
    record = Store(tmp_path / "runs.sqlite").get(1)
    assert (record.key, record.origin) == (plain["config_key"], "prune")
    assert record.headline["accuracy"] == plain["accuracy"]


def test_the_smaller_network_on_disk(capsys, tmp_path):
    """Where whole channels go: beside the zeros the network without them, which computes the same, and what it saves."""
    structured = (*SMALL, "--method", "structured", "--sparsity", "0.4", "--damping", "1e-2")
    result = run_json(capsys, *structured, "--output", str(tmp_path))
    assert json.loads((tmp_path / "run.json").read_text()) == result
    model = MODELS["digits-cnn"].build()
    tensors = load_file(str(tmp_path / "pruned.safetensors"))
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.endswith(".mask")})
    written = load_file(str(tmp_path / "smaller.safetensors"))
    weights = [name for name in written if written[name].ndim > 1]
    assert sum(written[name].numel() for name in weights) == result["kept"]
    test = get_dataset("digits").load(None).test.samples()
    small = shrunk(model.eval(), test.inputs[:4])
    small.load_state_dict(written)
    assert {name: tuple(p.shape) for name, p in small.state_dict().items()} == {
        name: tuple(tensor.shape) for name, tensor in written.items()
    }
    assert evaluate(small, test.batches(500)).accuracy == result["accuracy"]
    counts = result["smaller"]
    assert counts["parameters"] == sum(p.numel() for p in small.parameters())
    assert counts["parameters_before"] == sum(p.numel() for p in model.parameters())
    assert 0 < counts["multiply_adds"] < counts["multiply_adds_before"]
    assert cli.main(list(structured)) == 0
    text = capsys.readouterr().out
    assert f"smaller     {counts['parameters']:,} of {counts['parameters_before']:,} parameters" in text
    assert f"{counts['multiply_adds']:,} of {counts['multiply_adds_before']:,} multiply-adds a sample" in text


def test_no_smaller_network_where_single_weights_go(capsys, tmp_path):
    """Null, no file, not a word."""
    assert run_json(capsys, *SMALL, "--method", "magnitude", "--output", str(tmp_path))["smaller"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruned.safetensors", "run.json"]
    assert cli.main([*SMALL, "--method", "magnitude"]) == 0
    assert "smaller" not in capsys.readouterr().out


def test_options_reach_the_config(capsys, tmp_path):
    """Every option of the command lands in the config under its own name."""
    (tmp_path / "indices.txt").write_text("\n".join(str(i) for i in range(40)))
    arguments = {
        "exclude": "conv1",
        "scope": "layer",
        "update": "independent",
        "update_scale": 0.5,
        "num_samples": 20,
        "mini_batch": 2,
        "labels": "sampled",
        "damping": 0.01,
        "damping_scale": "relative",
        "block_size": 50,
        "solver": "spectral",
        "held_out": 10,
        "test_images": 100,
        "seed": 3,
        "device": "cpu",
        "sparsity": 0.4,
    }
    flags = [part for name, value in arguments.items() for part in ("--" + name.replace("_", "-"), str(value))]
    config = run_json(capsys, *SMALL, *flags, "--sample-indices", str(tmp_path / "indices.txt"))["config"]
    assert {name: config[name] for name in arguments} == {**arguments, "exclude": ["conv1"]}
    assert config["sample_indices"] == list(range(40))


def test_options_of_stages_and_budgets_reach_the_config(capsys):
    """The same of those that do not go with sample indices; a pattern brings its sparsity with it."""
    arguments = {
        "budget": "flops",
        "flops_power": 0.3,
        "images": 50,
        "batchnorm_images": 30,
        "stages": 2,
        "stage_shape": "linear",
        "probes": 3,
        "gradient_precision": "bfloat16",
        "num_samples": 20,
    }
    flags = [part for name, value in arguments.items() for part in ("--" + name.replace("_", "-"), str(value))]
    result = run_json(capsys, *SMALL, *flags, "--fixed-samples")
    assert {name: result["config"][name] for name in arguments} == arguments
    assert result["config"]["fresh_samples"] is False
    assert result["predicted_loss_change"] is None
    assert run_json(capsys, *SMALL[:7], "--stages", "2")["config"]["fresh_samples"] is True
    patterned = run_json(capsys, *SMALL[:7], "--pattern", "2:4", "--exclude", "conv1")
    assert (patterned["config"]["pattern"], patterned["sparsity"]) == ("2:4", 0.5)
    assert all(row["sparsity"] == 0.5 for row in patterned["layers"])


def test_defaults():
    """What the README documents as defaults is what an empty command line means."""
    options = cli.build_parser().parse_args(["prune"])
    wanted = {"model": "mlpnet", "method": "woodfisher", "sparsity": None, "scope": "global", "update": None}
    wanted |= {"update_scale": 1.0, "num_samples": 1000, "mini_batch": 1, "labels": "true", "damping": 1e-3}
    wanted |= {"damping_scale": "absolute", "pattern": None, "budget": "weights", "flops_power": 0.0, "images": None}
    wanted |= {"batchnorm_images": 0, "stages": 1, "stage_shape": "polynomial", "probes": None}
    wanted |= {"block_size": "layer", "solver": "auto", "held_out": 1000, "seed": 0, "device": "auto"}
    wanted |= {"test_images": None}
    assert {name: getattr(options, name) for name in wanted} == wanted
    config = PruneConfig()
    plain = {name: getattr(config, name) for name in wanted}
    assert plain == {**wanted, "update": "independent", "sparsity": 0.95}
    assert PruneConfig(method="magnitude").update == PruneConfig(method="diagonal-fisher").update == "none"


@pytest.mark.parametrize(
    ("command", "mentions"),
    [
        ([], ["prune", "gradual", "train", "models", "data"]),
        (["prune"], [*PRUNE_OPTIONS, *METHODS, *MODELS]),
        (["train"], ["--model", "--data-dir", "--seed", "--epochs", "--output"]),
        (["models"], ["usage"]),
        (["data"], ["list", "download"]),
        (["data", "list"], ["--data-dir"]),
        (["data", "download"], ["--data-dir", "mnist"]),
    ],
)
def test_help(capsys, command, mentions):
    """Every command explains itself and all its options."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert [word for word in mentions if word not in text] == []


@pytest.mark.parametrize(
    "command", [[], ["prune", "--sparsity", "many"], ["frobnicate"], ["data", "download", "cifar"]]
)
def test_usage_errors(capsys, command):
    """Arguments that cannot be parsed end with status 2 and the usage."""
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out) == (2, "")
    assert "usage:" in captured.err


def test_readable_report(capsys):
    """Without --json people get the same numbers as text."""
    assert cli.main(list(SMALL)) == 0
    text = capsys.readouterr().out
    result = run_json(capsys, *SMALL)
    assert f"{result['dense_accuracy']:.2f} % dense → {result['accuracy']:.2f} %" in text
    assert f"{result['kept']:,} of 6,152 weights kept" in text
    assert all(row["layer"] in text for row in result["layers"])


def test_lists(capsys, tmp_path):
    """Networks, methods and data sets are all listed, data with where it is."""
    assert cli.main(["models"]) == 0
    assert cli.main(["data", "list", "--data-dir", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*MODELS, *METHODS, "digits", "mnist", "ships with scikit-learn"))
    assert f"looked in {tmp_path}" in text


def test_download_of_data_that_is_here(capsys, mnist_root):
    """Nothing is fetched again."""
    assert cli.main(["data", "download", "mnist", "--data-dir", str(mnist_root)]) == 0
    assert f"MNIST is already in {mnist_root}" in capsys.readouterr().out


def test_train_writes_weights_and_card(capsys, tmp_path):
    """Training is a function of its seed; the card's hash and accuracy are those of the file beside it."""
    hashes = []
    for folder, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        out = tmp_path / folder
        arguments = ["train", "--model", "digits-mlp", "--epochs", "2", "--seed", seed, "--output", str(out)]
        assert cli.main(arguments) == 0
        card = (out / "digits-mlp.md").read_text()
        hashes.append(state_hash(load_file(str(out / "digits-mlp.safetensors"))))
        said = re.search(r"test accuracy ([\d.]+) %", capsys.readouterr().out).group(1)
        assert f"`{hashes[-1]}`" in card
        assert f"| test accuracy | {said} %" in card
        assert f"--seed {seed} --epochs 2" in card
    assert hashes[0] == hashes[1] != hashes[2]
