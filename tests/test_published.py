"""Against the outside world: published accuracies, the official code's own run, and our model cards."""

import re

import numpy as np
import pytest
import torch

from woodfisher_core.checkpoints import state_hash
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.problem import load_problem
from woodfisher_core.models import MODELS, get_model

# Global magnitude pruning of the authors' MLPNet checkpoint (Singh & Alistarh 2020), accuracy in percent by sparsity.
PUBLISHED_MAGNITUDE = {0.5: 93.93, 0.6: 93.78, 0.7: 93.62, 0.8: 92.89, 0.9: 90.30, 0.95: 83.64, 0.98: 32.25}
# Two printed decimals, of a test set of 10,000 images: one image more or less.
ONE_IMAGE = 0.01 + 1e-9


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return Workspace()


@pytest.fixture(scope="module")
def official(shared_data) -> PruneConfig:
    """The authors' MLPNet checkpoint."""
    weights = shared_data / "checkpoints" / "mnist_25_epoch_93.97.ckpt"
    return PruneConfig(
        model="mlpnet", weights=str(weights), data_dir=str(shared_data), method="magnitude", device="cpu"
    )


def test_dense_accuracy(workspace, official):
    """The checkpoint's name says 93.97 %."""
    assert workspace.problem(official).dense.accuracy == pytest.approx(93.97, abs=1e-9)


def test_published_magnitude_curve(workspace, official):
    """All seven published global-magnitude values, to one image."""
    points = workspace.curve(official, tuple(PUBLISHED_MAGNITUDE))
    found = {point.sparsity: point.accuracy for point in points}
    assert found == {s: pytest.approx(accuracy, abs=ONE_IMAGE) for s, accuracy in PUBLISHED_MAGNITUDE.items()}


@pytest.fixture(scope="module")
def parity(workspace, official, shared_data):
    """Our run of the case the official code was run on, and what that gave."""
    stem = shared_data / "parity" / "mlpnet_woodfisher_n100_layerblocks_sparsity95"
    indices = np.loadtxt(f"{stem}_indices.txt", dtype=int)
    config = official.replace(
        method="woodfisher",
        update="independent",
        sparsity=0.95,
        num_samples=100,
        damping=1e-5,
        block_size="layer",
        sample_indices=tuple(indices.tolist()),
    )
    return config, np.load(f"{stem}.npz")


@pytest.mark.parametrize("solver", ["auto", "dual", "spectral"])
def test_official_run(workspace, parity, solver):
    """Masks bit for bit, weights to 1e-4 of each layer's norm, and the same accuracy, 84.18 %."""
    config, reference = parity
    config = config.replace(solver=solver)
    outcome, parameters = workspace.outcome(config), workspace.problem(config).parameters
    masks, weights = parameters.unflatten(outcome.mask.keep), parameters.unflatten(outcome.weights)
    assert outcome.mask.kept == sum(int(reference[f"mask_{name}"].sum()) for name in ("fc1", "fc2", "fc3"))
    for name in ("fc1", "fc2", "fc3"):
        assert np.array_equal(masks[f"{name}.weight"].numpy(), reference[f"mask_{name}"].astype(bool))
        wanted = torch.from_numpy(reference[f"w_{name}"])
        error = torch.linalg.norm(weights[f"{name}.weight"] - wanted) / torch.linalg.norm(wanted)
        assert float(error) <= 1e-4
    assert workspace.evaluation(config).accuracy == pytest.approx(84.18, abs=1e-9)


@pytest.mark.parametrize("name", list(MODELS))
def test_shipped_weights_match_their_card(request, name):
    """Accuracy, loss, weight count and hash in the card are those of the file that ships."""
    card = get_model(name).card_file.read_text()
    dataset = re.search(r"data \| ([\w-]+)", card).group(1)
    if dataset != "digits":
        request.getfixturevalue("mnist_root" if dataset == "mnist" else "shared_data")
    problem = load_problem(PruneConfig(model=name, dataset=dataset, device="cpu"))

    def said(pattern: str) -> str:
        return re.search(pattern, card).group(1).replace(",", "")

    # Another CPU rounds otherwise: at most one image may change sides.
    assert problem.dense.accuracy == pytest.approx(
        float(said(r"test accuracy \| ([\d.]+) %")), abs=100 / problem.dense.num_samples + 0.005
    )
    assert problem.dense.loss == pytest.approx(float(said(r"test loss \| ([\d.]+) nats")), abs=1e-4)
    assert problem.parameters.num_prunable == int(said(r"prunable weights \| ([\d,]+):"))
    assert problem.weights_hash == said(r"sha256 of the tensors \| `(\w+)`") == state_hash(problem.model.state_dict())
