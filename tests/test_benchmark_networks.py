"""The networks the benchmarks run on: the architectures as published, seeded, on images drawn alike at every pass."""

import pytest
import torch
from PIL import Image
from torch import nn

from woodfisher_core.benchmarks.images import SeededImages, load_resnet20, read_images, seeded, settle
from woodfisher_core.checkpoints import load_state
from woodfisher_core.errors import InputError
from woodfisher_core.models import mobilenet_v1, resnet20
from woodfisher_core.parameters import PrunableParameters
from woodfisher_core.sampling import sample_order

# (builder, image size, parameters in all, prunable weights, logits): He et al. 2016 say 0.27 M, Howard et al. 2017 4.2 M.
NETWORKS = {
    "resnet20": (resnet20.build, 32, 272_474, 270_896, 10),
    "mobilenet_v1": (mobilenet_v1.build, 64, 4_231_976, 4_209_088, 1000),
}


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request):
    return seeded(NETWORKS[request.param][0]), NETWORKS[request.param]


def test_sizes(network):
    """Parameters, prunable weights and the shape of the logits."""
    model, (_, size, parameters, prunable, classes) = network
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert PrunableParameters.from_model(model).num_prunable == prunable
    assert model(torch.randn(2, 3, size, size)).shape == (2, classes)


def test_seeds(network):
    """One seed one network, another seed another, and the caller's random stream goes on as it was."""
    model, (build, *_) = network
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again, other = seeded(build), seeded(build, seed=1)
    assert torch.equal(torch.rand(3), expected)
    states = [m.state_dict() for m in (model, again, other)]
    weights = [name for name, value in states[0].items() if value.ndim > 1]
    assert all(torch.equal(states[0][name], states[1][name]) for name in weights)
    assert not any(torch.equal(states[0][name], states[2][name]) for name in weights)


def test_initial_scale(network):
    """Kaiming: each convolution's weights have variance 2 over what one input meets, C_out/groups · kernel."""
    model, _ = network
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:
        meets = conv.out_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
        tolerance = 5 * (2 / conv.weight.numel()) ** 0.5  # five standard errors of a variance
        assert float(conv.weight.detach().var()) * meets / 2 == pytest.approx(1.0, abs=tolerance)


def test_depth():
    """Twenty layers with weights on the longest way, shortcuts aside; twenty-eight in MobileNetV1."""
    layers = {
        name: [m for m in seeded(build).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        for name, (build, *_) in NETWORKS.items()
    }
    residual = [m for m in layers["resnet20"] if isinstance(m, nn.Linear) or m.kernel_size == (3, 3)]
    assert len(residual) == 20
    assert len(layers["mobilenet_v1"]) == 28


def test_resolution():
    """ResNet-20 ends on 8 × 8 maps of 64 channels, MobileNetV1 on 7 × 7 of 1024 at 224 pixels."""
    images = torch.randn(1, 3, 32, 32)
    residual = seeded(resnet20.build).eval()
    shapes = []
    residual.layer3.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    residual(images)
    mobile = seeded(mobilenet_v1.build).eval()
    mobile.blocks.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    with torch.no_grad():
        mobile(torch.randn(1, 3, 224, 224))
    assert shapes == [(1, 64, 8, 8), (1, 1024, 7, 7)]


def test_the_shortcut_is_taken():
    """With its last BatchNorm at zero a block passes its positive inputs through."""
    block = resnet20.BasicBlock(4, 4, 1).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_official_checkpoint_fits(shared_data):
    """The authors' ResNet-20 has these very names and shapes; its broken BatchNorm statistics are replaced."""
    file = shared_data / "checkpoints" / "resnet20_cifar10.pth.tar"
    state, model = load_state(file), load_resnet20(8, torch.device("cpu"), str(file)).model
    assert set(state) == set(model.state_dict())
    assert torch.equal(model.layer2[0].downsample[0].weight, state["layer2.0.downsample.0.weight"])
    assert not torch.equal(model.bn1.running_var, state["bn1.running_var"])


def test_images_are_the_same_at_every_pass():
    """Count, shapes and classes as asked, the same numbers again, others with another seed."""
    images = SeededImages(10, 8, 5, batch=4)
    first, second = list(images), list(images)
    assert [len(targets) for _, targets in first] == [4, 4, 2]
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, second, strict=True))
    inputs, targets = next(iter(images))
    assert inputs.shape == (4, 3, 8, 8)
    assert int(targets.max()) < 5
    assert not torch.equal(next(iter(SeededImages(10, 8, 5, seed=1, batch=4)))[0], inputs)


def test_settled_statistics_are_those_of_the_images():
    """In eval mode each channel of the first BatchNorm is centred with variance 1 on them; its momentum is as before."""
    model = seeded(resnet20.build)
    inputs, _ = next(iter(SeededImages(32, 32, 10, batch=32)))
    settled = settle(model, inputs)
    assert not settled.training
    assert settled.bn1.momentum == nn.BatchNorm2d(1).momentum
    with torch.no_grad():
        normed = settled.bn1(settled.conv1(inputs))
    assert float(normed.mean((0, 2, 3)).abs().max()) < 1e-5
    assert float((normed.var((0, 2, 3)) - 1).abs().max()) < 1e-2


def test_resnet20_problem():
    """What the large cases work with: rows of the first samples, at weights that are the network's."""
    problem = load_resnet20(20, torch.device("cpu"))
    assert problem.weights.shape == (270_896,)
    assert sum(len(targets) for _, targets in problem.batches(13)) == 13
    assert torch.equal(problem.weights[: 16 * 27], problem.model.conv1.weight.flatten())
    assert torch.isfinite(problem.model(problem.inputs)).all()


def write_images(folder, classes: int, each: int, size: int = 32) -> None:
    """Images of one shade each, 20 apart, as an ImageFolder tree."""
    for label in range(classes):
        (folder / f"class{label}").mkdir()
        for number in range(each):
            shade = 20 * label + number
            Image.new("RGB", (size, size), (shade, shade, shade)).save(folder / f"class{label}" / f"{number}.png")


def test_real_images(tmp_path):
    """Each with its class's number, normalised channel by channel, in the order of seed 0."""
    write_images(tmp_path, 10, 2)
    inputs, targets = (torch.cat(parts) for parts in zip(*read_images(str(tmp_path), 20), strict=True))
    assert inputs.shape == (20, 3, 32, 32)
    assert sorted(targets.tolist()) == sorted([*range(10), *range(10)])
    shades = ((inputs[:, 0, 0, 0] * 0.2023 + 0.4914) * 255).round()
    assert torch.equal((shades // 20).long(), targets)
    assert shades.tolist() == [20 * (i // 2) + i % 2 for i in sample_order(20, 0)]
    assert load_resnet20(20, torch.device("cpu"), folder=str(tmp_path)).targets.tolist() == targets.tolist()


@pytest.mark.parametrize(
    ("classes", "size", "message"),
    [
        (10, 32, "expected at least 20 in 10 classes, .* has 10 in 10"),
        (3, 32, "has 3 in 3"),
        (10, 8, "expected 32 × 32 pixels, got 8 × 8"),
    ],
)
def test_wrong_images_are_refused(tmp_path, classes, size, message):
    """Too few, too few classes, another size."""
    write_images(tmp_path, classes, 1, size)
    with pytest.raises(InputError, match=message):
        list(read_images(str(tmp_path), 10 if size == 8 else 20))
