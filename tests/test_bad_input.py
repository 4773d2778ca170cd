"""Every wrong request ends the command line with status 2 and one clear line: nothing on standard output, no traceback."""

import math
import re
import shutil

import pytest
import torch
from cases import network
from safetensors.torch import load_file, save_file
from test_sampling import BAD_INDEX_FILES

from woodfisher_core import cli, memory
from woodfisher_core.data import DATASETS, find_root, get_dataset
from woodfisher_core.data.mnist import SIZES
from woodfisher_core.errors import InputError, MemoryBudgetError, NumericalError, WoodFisherError
from woodfisher_core.fisher import Blocks
from woodfisher_core.methods import METHODS
from woodfisher_core.models import MODELS, get_model
from woodfisher_core.options import Solver
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.prune_options import PruneOptions

DIGITS = ("--model", "digits-mlp", "--num-samples", "20", "--held-out", "20")


def refusal(capsys, *arguments: str) -> str:
    """The one line ``prune`` says about bad ``arguments``."""
    assert cli.main(["prune", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.rstrip("\n").split("\r")[-1]
    assert line.startswith("error: ")
    assert "Traceback" not in captured.err
    assert "\n" not in line
    return line


REFUSED = {
    "sparsity below 0": (("--sparsity=-0.1",), "expected a fraction from 0 to below 1, got -0.1"),
    "sparsity 1": (("--sparsity", "1"), "expected a fraction from 0 to below 1, got 1.0"),
    "sparsity in percent": (("--sparsity", "95"), "got 95.0. For 95 % write 0.95"),
    "sparsity nan": (("--sparsity", "nan"), "expected a fraction from 0 to below 1, got nan"),
    "damping 0": (("--damping", "0"), "damping: expected a positive number, got 0.0"),
    "damping below 0": (("--damping=-1e-3",), "damping: expected a positive number, got -0.001"),
    "damping nan": (("--damping", "nan"), "damping: expected a positive number, got nan"),
    "damping inf": (("--damping", "inf"), "damping: expected a positive number, got inf"),
    "no samples": (("--num-samples", "0"), "num samples: expected a whole number of at least 1, got 0"),
    "mini-batch 0": (("--mini-batch", "0"), "mini batch: expected a whole number of at least 1, got 0"),
    "samples below 0": (("--num-samples=-5",), "expected a whole number of at least 1, got -5"),
    "too many samples": (("--num-samples", "1298"), "expected at most 1,297 (the training set), got 1,298"),
    "too many in batches": (
        ("--num-samples", "130", "--mini-batch", "10"),
        "expected at most 1,297 (the training set), got 1,300 (--num-samples times --mini-batch)",
    ),
    "held-out below 0": (("--held-out=-1",), "held-out samples: expected a whole number of at least 0, got -1"),
    "seed below 0": (("--seed=-1",), "seed: expected a whole number of at least 0, got -1"),
    "seed too large": (("--seed", str(2**32)), "seed: expected a whole number below 2³², got 4294967296"),
    "model": (("--model", "resnet9000"), f"model: expected one of {', '.join(MODELS)}, got 'resnet9000'"),
    "method": (("--method", "magic"), f"method: expected one of {', '.join(METHODS)}, got 'magic'"),
    "dataset": (("--dataset", "mnist"), "dataset: digits-mlp reads digits, got 'mnist'"),
    "unknown dataset": (("--dataset", "imagenet"), "dataset: digits-mlp reads digits, got 'imagenet'"),
    "update": (("--update", "magic"), "update: expected one of none, independent, joint, got 'magic'"),
    "scope": (("--scope", "row"), "scope: expected one of global, layer, erk, got 'row'"),
    "labels": (("--labels", "fake"), "labels: expected one of true, sampled, got 'fake'"),
    "solver": (("--solver", "magic"), "solver: expected one of auto, dual, primal, spectral, got 'magic'"),
    "device": (("--device", "toaster"), "device: expected auto, cpu, cuda or mps, got 'toaster'"),
    "other device": (("--device", "meta"), "device: expected auto, cpu, cuda or mps, got 'meta'"),
    "block 0": (("--block-size", "0"), "expected a whole number of at least 1, 'layer' or 'network', got '0'"),
    "block below 0": (("--block-size=-4",), "expected a whole number of at least 1, 'layer' or 'network', got '-4'"),
    "block word": (("--block-size", "half"), "expected a whole number of at least 1, 'layer' or 'network', got 'half'"),
    "block 1.5": (("--block-size", "1.5"), "expected a whole number of at least 1, 'layer' or 'network', got '1.5'"),
    "pattern": (("--pattern", "4:2"), "pattern: expected N:M with N below M, such as 2:4 (2 of 4 stay), got '4:2'"),
    "pattern and sparsity": (
        ("--pattern", "2:4", "--sparsity", "0.9"),
        "sparsity: the pattern 2:4 removes 0.5 of the weights, got 0.9. Leave it out",
    ),
    "pattern and scope": (
        ("--pattern", "2:4", "--scope", "layer"),
        "pattern 2:4: it has no threshold, so scope and budget",
    ),
    "pattern and budget": (("--pattern", "2:4", "--budget", "flops"), "scope and budget must be left as they are"),
    "pattern and stages": (("--pattern", "2:4", "--stages", "2"), "pattern 2:4 is reached in one step, got 2 stages"),
    "pattern on these layers": (
        ("--pattern", "2:32"),
        "pattern 2:32: the inputs of every layer must divide by 32; those of fc3 (16) do not. Exclude these layers",
    ),
    "budget": (("--budget", "euros"), "budget: expected one of weights, flops, got 'euros'"),
    "budget and ERK": (
        ("--budget", "flops", "--scope", "erk"),
        "budget: Erdős–Rényi layers share out weights, not multiply-adds. Choose another scope",
    ),
    "FLOPs power below 0": (("--flops-power=-1",), "FLOPs power: expected a number of at least 0, got -1.0"),
    "FLOPs power nan": (("--flops-power", "nan"), "FLOPs power: expected a number of at least 0, got nan"),
    "no images": (("--images", "0"), "images: expected a whole number of at least 1, got 0"),
    "fewer images": (("--images", "19"), "images: only 19 exist, and num_samples × mini_batch asks for 20. Lower it"),
    "fewer images than BatchNorm's": (
        ("--images", "20", "--batchnorm-images", "21"),
        "images: only 20 exist, and batchnorm_images asks for 21",
    ),
    "BatchNorm images below 0": (("--batchnorm-images=-1",), "batchnorm images: expected a whole number of at least 0"),
    "too many BatchNorm images": (
        ("--batchnorm-images", "1298"),
        "BatchNorm images: expected at most 1,297 (the training set), got 1,298",
    ),
    "stages 0": (("--stages", "0"), "stages: expected a whole number of at least 1, got 0"),
    "stage shape": (
        ("--stages", "2", "--stage-shape", "wave"),
        "stage shape: expected one of linear, polynomial, got 'wave'",
    ),
    "one probe": (("--probes", "1"), "probes: expected a whole number of at least 2, got 1"),
    "scaled joint": (("--update", "joint", "--update-scale", "0.5"), "got scale 0.5 with update 'joint'"),
    "scaled mask": (("--method", "magnitude", "--update-scale", "2"), "got scale 2.0 with update 'none'"),
    "scale nan": (("--update-scale", "nan"), "update scale: expected a finite number, got nan"),
    "exclude": (("--exclude", "fc9"), "no prunable layer matches 'fc9'; prunable layers are fc1, fc2, fc3"),
    "exclude all": (("--exclude", "fc*"), "no prunable weights"),
    "budget 0": (("--memory-budget", "0"), "memory budget: expected a positive number of GiB, got 0.0"),
    "budget nan": (("--memory-budget", "nan"), "memory budget: expected a positive number of GiB, got nan"),
    "budget inf": (("--memory-budget", "inf"), "memory budget: expected a positive number of GiB, got inf"),
    "over the budget": (
        ("--memory-budget", "1e-4"),
        "too small even for one block at a time; the smallest that works here is",
    ),
    "missing weights": (("--weights", "/no/such/file.pt"), "expected a file at '/no/such/file.pt', found none"),
    "weights suffix": (("--weights", __file__), "got 'test_bad_input.py'"),
    "other shapes": (
        ("--weights", str(get_model("digits-cnn").weights_file)),
        "digits-cnn.safetensors does not fit DigitsMLP: lacks fc1.weight",
    ),
    "missing index file": (("--sample-indices", "/no/such/indices.txt"), "'/no/such/indices.txt', found none"),
    "missing data folder": (
        ("--model", "mlpnet", "--data-dir", "/no/such/folder"),
        "data folder: expected a folder at '/no/such/folder', found none. Check --data-dir",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(capsys, arguments, message):
    """The line says what was expected and what came."""
    assert message in refusal(capsys, *DIGITS, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_absent_cuda(capsys):
    """Asking for CUDA where there is none says so."""
    assert "no CUDA device is usable here; expected --device cpu or auto" in refusal(
        capsys, *DIGITS, "--device", "cuda"
    )


@pytest.mark.parametrize(("content", "message"), BAD_INDEX_FILES.values(), ids=BAD_INDEX_FILES)
def test_index_files(capsys, tmp_path, content, message):
    """Every bad index file is refused by name."""
    (tmp_path / "bad.txt").write_bytes(content)
    line = refusal(capsys, *DIGITS, "--sample-indices", str(tmp_path / "bad.txt"))
    assert "bad.txt" in line
    assert message in line


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (range(19), "expected 20 (--num-samples times --mini-batch), got 19"),
        ([*range(19), 1297], "expected values from 0 to 1,296, got 0 to 1297"),
    ],
)
def test_indices_that_do_not_fit(capsys, tmp_path, values, message):
    """The number of indices and their range are checked against the run."""
    (tmp_path / "indices.txt").write_text("\n".join(map(str, values)))
    assert message in refusal(capsys, *DIGITS, "--sample-indices", str(tmp_path / "indices.txt"))


def test_damaged_weights(capsys, tmp_path):
    """NaN in a weights file, and a truncated one, are refused by name."""
    state = load_file(str(get_model("digits-mlp").weights_file))
    state["fc2.weight"][3, 4] = math.nan
    save_file(state, str(tmp_path / "nan.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "nan.safetensors").read_bytes()[:-7])
    line = refusal(capsys, *DIGITS, "--weights", str(tmp_path / "nan.safetensors"))
    assert "nan.safetensors: fc2.weight holds 1 values that are NaN or infinite" in line
    line = refusal(capsys, *DIGITS, "--weights", str(tmp_path / "cut.safetensors"))
    assert "cut.safetensors is damaged or no safetensors file" in line


def test_output_that_cannot_be_written(capsys, tmp_path):
    """A file in the place of the output folder is said, and nothing is printed."""
    (tmp_path / "taken").write_text("")
    assert "taken" in refusal(capsys, *DIGITS, "--output", str(tmp_path / "taken"))


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A home without data."""
    monkeypatch.delenv("WOODFISHER_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("given", [False, True])
def test_missing_data(capsys, nowhere, given):
    """Without MNIST the line says where it looked and the command that fetches it."""
    (nowhere / "empty").mkdir()
    where = ("--data-dir", str(nowhere / "empty")) if given else ()
    line = refusal(capsys, "--model", "mlpnet", *where)
    assert str(nowhere / ("empty" if given else "cache")) in line
    assert "python -m woodfisher_core data download mnist" in line
    assert "(12 MB)" in line


def test_environment_variable_names_a_missing_folder(capsys, nowhere, monkeypatch):
    """A wrong WOODFISHER_DATA is among the places looked in."""
    monkeypatch.setenv("WOODFISHER_DATA", str(nowhere / "gone"))
    assert str(nowhere / "gone") in refusal(capsys, "--model", "mlpnet")


@pytest.mark.parametrize("damaged", list(SIZES))
def test_damaged_mnist(capsys, tmp_path, mnist_root, damaged):
    """A truncated file is named with its size and the right one, and so is one that is no IDX file."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in SIZES:
        (raw / name).symlink_to(mnist_root / "MNIST" / "raw" / name)
    (raw / damaged).unlink()
    with (raw / damaged).open("wb") as file:
        file.truncate(1000)
    line = refusal(capsys, "--model", "mlpnet", "--data-dir", str(tmp_path))
    assert f"{damaged} is damaged: expected {SIZES[damaged]:,} bytes, got 1,000" in line
    with (raw / damaged).open("wb") as file:
        file.truncate(SIZES[damaged])  # zeros: right in size only
    assert f"{damaged} is damaged" in refusal(capsys, "--model", "mlpnet", "--data-dir", str(tmp_path))
    shutil.rmtree(tmp_path / "MNIST")


def test_options_of_the_python_interface():
    """Wrong types are refused as wrong values are."""
    for options, message in (
        ({"num_samples": 1.5}, "num samples: expected a whole number of at least 1, got 1.5"),
        ({"num_samples": True}, "num samples: expected a whole number"),
        ({"damping": "1e-3"}, "damping: expected a positive number, got 1e-3"),
        ({"sparsity": "0.5"}, "sparsity: expected a fraction"),
        ({"update_scale": "1"}, "update scale: expected a finite number"),
        ({"block_size": None}, "block size: expected a whole number"),
        ({"update": 3}, "update: expected one of none"),
        ({"pattern": 24}, "pattern: expected N:M with N below M"),
        ({"flops_power": True}, "FLOPs power: expected a number of at least 0, got True"),
        ({"flops_power": "0.3"}, "FLOPs power: expected a number of at least 0, got '0.3'"),
        ({"images": 2.0}, "images: expected a whole number of at least 1, got 2.0"),
        ({"batchnorm_images": None}, "batchnorm images: expected a whole number of at least 0, got None"),
        ({"stages": 1.5}, "stages: expected a whole number of at least 1, got 1.5"),
        ({"stages": True}, "stages: expected a whole number of at least 1, got True"),
        ({"stages": None}, "stages: expected a whole number of at least 1, got None"),
        ({"probes": "many"}, "probes: expected a whole number of at least 2, got 'many'"),
        ({"probes": 0}, "probes: expected a whole number of at least 2, got 0"),
        (
            {"scope": "erk", "method": "exact-obs"},
            "scope: exact-obs goes with global, layer",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            PruneOptions(**options)


def test_memory_plan():
    """The prediction counts N·d rows, and what the spectral solver keeps beside them."""
    parameters = PrunableParameters.from_model(network("mlp"))
    need = memory.predict(1000, Blocks.of(parameters, "layer"))
    assert need.rows == 1000 * 125 * 4
    assert need.total == need.rows + need.solver + need.workspace
    spectral = memory.predict(10, Blocks.of(parameters, "network"), Solver.SPECTRAL)
    assert spectral.solver > memory.predict(10, Blocks.of(parameters, "network")).solver


def test_errors_are_ordinary_ones_too():
    """Callers may catch the built-in kinds."""
    assert issubclass(InputError, ValueError)
    assert issubclass(MemoryBudgetError, MemoryError)
    assert issubclass(NumericalError, ArithmeticError)
    assert all(issubclass(kind, WoodFisherError) for kind in (InputError, MemoryBudgetError, NumericalError))


def test_unknown_names():
    """Registries list what they know."""
    with pytest.raises(InputError, match=f"expected one of {', '.join(DATASETS)}, got 'cifar'"):
        get_dataset("cifar")
    assert find_root(get_dataset("digits")) is None
