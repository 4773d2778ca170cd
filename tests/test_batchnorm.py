"""BatchNorm statistics estimated anew against a float64 computation layer by layer, and bad ones found out."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import conv2d

from woodfisher_core.batchnorm import mismatch, reestimate
from woodfisher_core.checkpoints import load_into, load_state
from woodfisher_core.data import get_dataset
from woodfisher_core.errors import InputError
from woodfisher_core.evaluation import evaluate
from woodfisher_core.experiments.config import PruneConfig
from woodfisher_core.experiments.problem import load_problem
from woodfisher_core.models import get_model
from woodfisher_core.sampling import sample_order


@pytest.fixture
def digits():
    return get_dataset("digits").load(None)


@pytest.fixture
def trained():
    """The shipped digits-cnn, in eval mode."""
    spec = get_model("digits-cnn")
    model = spec.build()
    load_into(model, load_state(spec.shipped_weights()), "shipped")
    return model.eval()


def layer_statistics(model: nn.Module, batches) -> dict[str, torch.Tensor]:
    """Mean and unbiased variance before each BatchNorm of digits-cnn, averaged over batches by their size, in float64."""
    state = {name: value.double() for name, value in model.state_dict().items()}
    count = sum(len(batch) for batch in batches)
    found: dict[str, torch.Tensor] = {}
    for batch in batches:
        x, share = batch.double(), len(batch) / count
        for number, stride in ((1, 1), (2, 2), (3, 2)):
            x = conv2d(x, state[f"conv{number}.weight"], stride=stride, padding=1)
            flat = x.transpose(0, 1).flatten(1)  # (C, n · h · w)
            mean, size = flat.mean(1), flat.shape[1]
            biased = ((flat - mean[:, None]) ** 2).sum(1) / size
            for kind, value in (("mean", mean), ("var", biased * size / (size - 1))):
                name = f"bn{number}.running_{kind}"
                found[name] = found.get(name, 0.0) + share * value
            scale, shift = (state[f"bn{number}.{kind}"][None, :, None, None] for kind in ("weight", "bias"))
            x = (x - mean[None, :, None, None]) / (biased + 1e-5).sqrt()[None, :, None, None] * scale + shift
            x = x.clamp(min=0)
    return found


@pytest.mark.parametrize("sizes", [(64,), (32, 32), (50, 20, 7)])
def test_statistics_are_those_of_the_images(trained, digits, sizes):
    """Of one batch, of equal ones, and of unequal ones, each weighted by its images."""
    inputs = digits.train.samples(range(sum(sizes))).inputs
    found = reestimate(trained, [(batch, None) for batch in inputs.split(sizes)])
    expected = layer_statistics(trained, inputs.split(sizes))
    assert set(found) == {*expected, *(f"bn{number}.num_batches_tracked" for number in (1, 2, 3))}
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-4, atol=1e-5)
    assert int(found["bn1.num_batches_tracked"]) == len(sizes)


def test_a_single_image_joins_its_neighbour(trained, digits):
    """1 + 32 and 32 + 1 images are one batch of 33."""
    inputs = digits.train.samples(range(33)).inputs
    whole = reestimate(trained, [inputs])
    for split in ((1, 32), (32, 1)):
        parts = reestimate(trained, inputs.split(split))
        assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert not torch.equal(reestimate(trained, [inputs[:32]])["bn1.running_mean"], whole["bn1.running_mean"])


@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_left_alone(trained, digits, training):
    """Tensors, mode and momentum are as before, whatever mode it was in."""
    trained.train(training)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    found = reestimate(trained, digits.train.samples(range(40)).batches(20))
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert all(module.training is training for module in trained.modules())
    assert trained.bn1.momentum == nn.BatchNorm2d(1).momentum
    assert not torch.equal(found["bn1.running_mean"], before["bn1.running_mean"])


def test_dropout_stays_off():
    """With dropout before the BatchNorm the statistics are those without it."""
    linear, inputs = nn.Linear(6, 4), torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    with_dropout = nn.Sequential(linear, nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    found = reestimate(with_dropout, [inputs])
    values = linear(inputs).detach()
    torch.testing.assert_close(found["2.running_mean"], values.mean(0))
    torch.testing.assert_close(found["2.running_var"], values.var(0))


def test_a_network_without_batchnorm_has_none(digits):
    """Nothing is returned, and no image is looked at."""
    model = get_model("digits-mlp").build()
    assert reestimate(model, digits.train.samples(range(4)).batches(2)) == {}
    assert mismatch(model, digits.train.samples(range(4)).batches(2)) == ()


def test_too_few_images_are_refused():
    """No image at all; one image with maps of 1 × 1, whose variance nobody knows. One with larger maps is enough."""
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
    with pytest.raises(InputError, match="more images"):
        reestimate(flat, [torch.ones(1, 1, 2, 2)])
    with pytest.raises(InputError, match="got none"):
        reestimate(flat, [])
    maps = nn.BatchNorm2d(1)
    image = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert float(reestimate(maps, [image])["running_var"]) == pytest.approx(5 / 3)


def test_good_statistics_pass(trained, digits):
    """Those of the shipped network fit its images, 64 of them or a thousand, with room to spare."""
    for count in (64, 1000):
        assert mismatch(trained, digits.train.samples(range(count)).batches(500)) == ()


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("var", lambda value: 4.5 * value, "variance"),
        ("var", lambda value: value / 4.5, "variance"),
        ("mean", lambda value: value + 3.0, "mean"),
        ("mean", lambda value: value * float("nan"), "nan"),
    ],
)
def test_bad_statistics_name_their_layer_alone(trained, digits, kind, change, expected):
    """The layers after it are measured on inputs that are right."""
    buffer = trained.get_buffer(f"bn2.running_{kind}")
    buffer.copy_(change(buffer))
    (found,) = mismatch(trained, digits.train.samples(range(200)).batches(100))
    assert found.layer == "bn2"
    if expected == "variance":
        assert found.variance_factor == pytest.approx(4.5, rel=0.2)
        assert found.mean_shift < 0.1
    elif expected == "mean":
        assert found.mean_shift > 0.5
        assert found.variance_factor < 1.2


def test_a_few_odd_channels_are_no_mismatch(trained, digits):
    """A dead channel's variance may be off by any factor: half of the channels must be."""
    trained.bn2.running_var[:3] *= 100
    assert mismatch(trained, digits.train.samples(range(200)).batches(100)) == ()


def test_loading_warns_and_names_the_option(trained, tmp_path):
    """Weights by path with bad statistics: said once, with the layer, the factor and the way out; good ones: nothing."""
    save_file(trained.state_dict(), tmp_path / "good.safetensors")
    trained.bn2.running_var *= 20
    save_file(trained.state_dict(), tmp_path / "bad.safetensors")
    config = PruneConfig(model="digits-cnn", weights=str(tmp_path / "good.safetensors"), device="cpu")
    assert load_problem(config).broken_batchnorm == ()  # warnings are errors here
    with pytest.warns(
        UserWarning, match=r"BatchNorm statistics of bn2 do.*factor of (19|20|21)\.\d.*--repair-batchnorm"
    ) as said:
        problem = load_problem(config.replace(weights=str(tmp_path / "bad.safetensors")))
    assert problem.broken_batchnorm == ("bn2",)
    assert len(said) == 1


def test_official_checkpoint(shared_data):
    """The authors' ResNet-20 under the usual normalisation: 43 % as it is, its first layer named, 78 % estimated anew.

    A JPEG copy of CIFAR-10, 2,000 training images and 2,000 test images.
    """
    data = get_dataset("cifar10-jpeg").load(shared_data)
    model = get_model("resnet20").build()
    file = shared_data / "checkpoints" / "resnet20_cifar10.pth.tar"
    load_into(model, load_state(file), str(file))
    model.eval()
    chosen = data.train.samples(sample_order(len(data.train), 0)[:2000])
    test = data.test.samples(sample_order(len(data.test), 0)[:2000])
    few = [chosen.inputs[:128]]
    (found,) = mismatch(model, few)
    assert found.layer == "bn1"
    assert found.variance_factor > 4
    assert evaluate(model, test.batches(500)).accuracy < 60
    model.load_state_dict(reestimate(model, chosen.batches(250)), strict=False)
    assert evaluate(model, test.batches(500)).accuracy > 75
    assert mismatch(model, few) == ()
