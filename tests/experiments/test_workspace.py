"""The workspace: what is computed once, what is shared, and that sharing never changes a result."""

import gc
import os
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from woodfisher_core.errors import InputError, MemoryBudgetError
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments import materials as module
from woodfisher_core.models import get_model
from woodfisher_core.planning import Storage
from woodfisher_core.timing import Stopwatch

MLP = PruneConfig(model="digits-mlp", num_samples=120, held_out=50, sparsity=0.8, device="cpu")
CNN = MLP.replace(model="digits-cnn", num_samples=60)


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """Numbers of gradient rows made, one entry a call of the real function."""
    calls, real = [], module.gradient_matrix

    def counting(model, parameters, batches, num_rows, **options):
        calls.append(num_rows)
        return real(model, parameters, batches, num_rows, **options)

    monkeypatch.setattr(module, "gradient_matrix", counting)
    return calls


def same(first, second) -> bool:
    return torch.equal(first.mask.keep, second.mask.keep) and torch.equal(first.weights, second.weights)


def test_gradients_are_made_once(counted):
    """Sparsity, damping, blocks, update, scope and method all share the same rows; only their source makes new ones."""
    workspace = Workspace()
    for change in (
        {},
        {"sparsity": 0.5},
        {"damping": 1e-2},
        {"block_size": 32},
        {"update": "joint"},
        {"scope": "layer"},
        {"solver": "spectral"},
        {"method": "diagonal-fisher"},
        {"num_samples": 50},
    ):
        workspace.outcome(MLP.replace(**change))
    workspace.curve(MLP, (0.1, 0.5, 0.9))
    assert counted == [120]
    for change in ({"num_samples": 121}, {"seed": 1}, {"labels": "sampled"}, {"mini_batch": 2}, {"exclude": ("fc3",)}):
        workspace.outcome(MLP.replace(**change))
    assert counted == [120, 121, 120, 120, 120, 120]
    workspace.outcome(MLP.replace(method="magnitude", update="none", num_samples=700))
    assert len(counted) == 6


@pytest.mark.parametrize("config", [MLP, CNN], ids=["mlp", "cnn"])
@pytest.mark.parametrize("labels", ["true", "sampled"])
def test_fewer_samples_are_a_prefix(config, labels):
    """A smaller N taken from kept rows gives bitwise the mask and weights of a fresh start."""
    config = config.replace(labels=labels)
    shared = Workspace()
    shared.outcome(config)
    for count in (10, 37, 59):
        smaller = config.replace(num_samples=count)
        kept, fresh = shared.outcome(smaller), Workspace().outcome(smaller)
        assert same(kept, fresh)


def test_results_do_not_depend_on_history():
    """A workspace that did much before gives bitwise the result of a new one."""
    busy = Workspace()
    for change in ({"damping": 1e-1}, {"solver": "spectral"}, {"block_size": 16}, {"update": "joint"}):
        busy.outcome(MLP.replace(**change))
    assert same(busy.outcome(MLP), Workspace().outcome(MLP))


@pytest.mark.parametrize("cache_bytes", [0, 1000, 3 << 20])
def test_byte_bound(cache_bytes):
    """Whatever the bound, it is respected, and the results are the same."""
    small = Workspace(cache_bytes=cache_bytes)
    for sparsity in (0.5, 0.8):
        assert same(small.outcome(MLP.replace(sparsity=sparsity)), Workspace().outcome(MLP.replace(sparsity=sparsity)))
        assert small.cache.nbytes <= cache_bytes


def test_threads_compute_once(counted):
    """Eight threads asking for the same run share one computation and one result."""
    workspace, start, found = Workspace(), threading.Barrier(8), []

    def ask():
        start.wait()
        found.append((workspace.outcome(MLP), workspace.evaluation(MLP), workspace.loss_change(MLP)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [120]
    assert len(found) == 8
    assert all(same(found[0][0], other[0]) and found[0][2] == other[2] for other in found)


@pytest.mark.parametrize("method", ["magnitude", "diagonal-fisher", "woodfisher"])
@pytest.mark.parametrize("update", ["none", "independent", "joint"])
def test_curve_equals_single_runs(method, update):
    """Every point of a curve is what a run at its sparsity gives."""
    config, workspace, levels = MLP.replace(method=method, update=update), Workspace(), (0.0, 0.3, 0.7, 0.9)
    curve = workspace.curve(config, levels)
    for point, sparsity in zip(curve, levels, strict=True):
        single = config.replace(sparsity=sparsity)
        result = Workspace().evaluation(single)
        assert (point.sparsity, point.accuracy) == (sparsity, result.accuracy)
        assert point.loss == pytest.approx(result.loss, rel=1e-5)
        assert point.kept == workspace.outcome(single).mask.kept


@pytest.mark.parametrize("config", [MLP, CNN], ids=["mlp", "cnn"])
@pytest.mark.parametrize(
    "change",
    [
        {"labels": "sampled"},
        {"scope": "layer"},
        {"exclude": ("fc*",)},
        {"mini_batch": 3},
        {"update": "joint", "block_size": "network"},
        {"update": "joint", "labels": "sampled", "mini_batch": 2, "block_size": 20},
        {"held_out": 0},
        {"sparsity": 0.0},
        {"num_samples": 1},
        {"sample_indices": tuple(range(60)), "num_samples": 60},
    ],
    ids=str,
)
def test_every_option_runs_end_to_end(config, change):
    """Whole reports on the shipped networks: finite figures, the asked sparsity, exact zeros."""
    if config is MLP and "exclude" in change:
        change = {"exclude": ("fc1",)}
    config = config.replace(**change)
    report = Workspace().report(config)
    gone = ~report.outcome.mask.keep
    assert not report.outcome.weights[gone].any()
    assert report.outcome.mask.sparsity == pytest.approx(config.sparsity, abs=0.05)
    change_in_loss = report.loss_change
    assert torch.isfinite(torch.tensor([report.pruned.loss, change_in_loss.measured_fisher_samples])).all()
    assert (change_in_loss.measured_held_out is None) == (config.held_out == 0)
    assert change_in_loss.predicted_fisher_samples.second_order >= 0
    if config.sparsity == 0.0:
        assert report.pruned.accuracy == report.problem.dense.accuracy
        assert change_in_loss.measured_fisher_samples == 0.0


def test_loss_change_by_its_definition():
    """The measured change is the mean loss after less before, on samples the Fisher did not see and on those it did."""
    workspace = Workspace()
    change, problem = workspace.loss_change(MLP), workspace.problem(MLP)
    used, held_out = workspace.samples(MLP)
    weights = workspace.outcome(MLP).weights
    for indices, measured in ((used, change.measured_fisher_samples), (held_out, change.measured_held_out)):
        samples = problem.train_samples(indices)
        after, before = problem.evaluate(weights, samples).loss, problem.evaluate(None, samples).loss
        assert measured == pytest.approx(after - before, abs=1e-9)
    assert not set(used) & set(held_out)
    assert (len(used), len(held_out)) == (120, 50)
    step = (weights - problem.weights).double()
    assert change.damping_penalty == pytest.approx(0.5 * MLP.damping * float(step @ step), rel=1e-9)


@pytest.mark.parametrize("config", [MLP, CNN], ids=["mlp", "cnn"])
@pytest.mark.parametrize("mini_batch", [1, 2])
def test_first_order_is_the_slope_of_the_loss(config, mini_batch):
    """gᵀδ on either set of samples equals the slope of their mean loss along the step, by central differences."""
    config, workspace = config.replace(mini_batch=mini_batch), Workspace()
    change, problem = workspace.loss_change(config), workspace.problem(config)
    step = workspace.outcome(config).weights - problem.weights
    terms = (change.predicted_fisher_samples, change.predicted_held_out)
    for indices, predicted in zip(workspace.samples(config), terms, strict=True):
        samples = problem.train_samples(indices)
        up, down = (problem.evaluate(problem.weights + h * step, samples).loss for h in (5e-3, -5e-3))
        assert predicted.first_order == pytest.approx((up - down) / 1e-2, rel=0.02, abs=1e-4)


def test_report_times_its_phases():
    """A first report charges every phase; a second one finds all in the cache."""
    workspace = Workspace()
    first, second = workspace.report(MLP), workspace.report(MLP)
    assert {"gradients", "inverse", "score", "update", "evaluate"} <= set(first.seconds)
    assert "gradients" not in second.seconds
    assert same(first.outcome, second.outcome)


def test_progress_is_told():
    """Gradients and curves report how far they are."""
    told = []
    workspace = Workspace()
    workspace.curve(MLP, (0.1, 0.9), lambda *news: told.append(news))
    assert told[-1] == ("curve", 2, 2)
    assert ("gradients", 120, 120) in told


def test_replaced_weights_file_is_another_source(tmp_path):
    """A file that changes under its name is read again, and a config that names another hash is refused."""
    state = load_file(str(get_model("digits-mlp").weights_file))
    path, workspace = tmp_path / "w.safetensors", Workspace()
    save_file(state, str(path))
    config = MLP.replace(weights=str(path))
    first = workspace.resolve(config)
    save_file({name: 2 * tensor for name, tensor in state.items()} | {"spare": torch.ones(1)}, str(path))
    with pytest.raises(InputError, match="has spare, which the model does not"):
        workspace.resolve(config)
    save_file({name: 2 * tensor for name, tensor in state.items()}, str(path))
    assert workspace.resolve(config).weights_hash != first.weights_hash
    with pytest.raises(InputError, match=f"made with {first.weights_hash[:12]}"):
        Workspace().resolve(first)


def test_a_config_of_other_weights_or_data_is_refused_even_when_they_are_kept():
    """The hashes are compared on every call, not only when the files are first read."""
    workspace = Workspace()
    workspace.problem(MLP)
    for name in ("weights_hash", "data_hash"):
        with pytest.raises(InputError, match=f"{name.replace('_', ' ')}: the config was made with 000000000000"):
            workspace.resolve(MLP.replace(**{name: "0" * 64}))


def test_other_data_is_another_result(tmp_path, mnist_root):
    """Two folders of MNIST with different labels never share a result."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (mnist_root / "MNIST" / "raw").glob("*-ubyte"):
        content = bytearray(path.read_bytes())
        if path.name.endswith("idx1-ubyte"):
            content[8:] = bytes((label + 1) % 10 for label in content[8:])
        (raw / path.name).write_bytes(content)
    workspace = Workspace()
    config = PruneConfig(method="magnitude", num_samples=10, held_out=100, data_dir=str(mnist_root))
    other = config.replace(data_dir=str(tmp_path))
    found = workspace.loss_change(config).measured_held_out, workspace.loss_change(other).measured_held_out
    assert workspace.resolve(config).key != workspace.resolve(other).key
    assert found[1] == Workspace().loss_change(other).measured_held_out != found[0]


def test_what_is_missing():
    """Gradients and inverse are asked for only where a setting needs them and they are not kept."""
    workspace = Workspace()
    diagonal = MLP.replace(method="diagonal-fisher", update=None)
    assert workspace.missing(MLP.replace(method="magnitude", update=None)) == (False, False)
    assert workspace.missing(diagonal) == (True, False)
    assert workspace.missing(MLP) == (True, True)
    workspace.outcome(diagonal)
    assert workspace.missing(diagonal) == (False, False)
    assert workspace.missing(MLP) == (False, True)
    workspace.outcome(MLP)
    assert workspace.missing(MLP) == (False, False)


def test_memory_budget(tmp_path):
    """Rows asked for are refused where they do not fit; a run streams them then, with the same outcome, and says so."""
    small = Workspace(memory_budget=100_000)
    with pytest.raises(
        MemoryBudgetError, match=r"120 gradients of 2,720 weights held in memory need .* budget is 97\.7 KiB"
    ):
        small.rows(MLP, Stopwatch())
    said: list[str] = []
    wanted = Workspace(say=said.append).report(MLP)
    for budget, storage in ((5 << 20, None), (None, Storage.SPILLED), (None, Storage.RECOMPUTED)):
        streamed = Workspace(memory_budget=budget, storage=storage, scratch=tmp_path, say=said.append)
        report = streamed.report(MLP)
        assert torch.equal(report.outcome.mask.keep, wanted.outcome.mask.keep)
        assert report.loss_change.predicted_fisher_samples.total == pytest.approx(
            wanted.loss_change.predicted_fisher_samples.total, rel=1e-5
        )
        assert streamed.cache.peek(("rows",)) is None
    assert ["memory" in said[0], *("scratch file" in text for text in said[1:3])] == [True, True, True]
    assert "recomputed" in said[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="counts the process's open files in /proc")
def test_one_scratch_file_at_most(tmp_path):
    """Another run's gradients take the place of the last one's."""
    workspace = Workspace(storage=Storage.SPILLED, scratch=tmp_path)
    for seed in range(3):
        workspace.report(MLP.replace(seed=seed))
        gc.collect()
        links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert sum(link.startswith(str(tmp_path)) for link in links) == 1


def test_gradient_precision_is_part_of_the_run():
    """bfloat16 gradients are another run, kept apart, and close to the full one."""
    workspace = Workspace()
    full, half = MLP, MLP.replace(gradient_precision="bfloat16")
    assert workspace.rows(half, Stopwatch()).dtype is torch.bfloat16
    assert workspace.rows(full, Stopwatch()).dtype is torch.float32
    assert full.key != half.key
    here, there = workspace.outcome(full), workspace.outcome(half)
    moved = ((here.saliency - there.saliency).abs() / here.saliency.clamp_min(1e-30)).max()
    assert 1e-6 < float(moved) < 1e-2
    assert (here.mask.keep != there.mask.keep).float().mean() < 0.01


def test_relative_damping_is_the_run_at_its_lambda():
    """Same mask, weights and penalty as with the λ in force given itself; the scales never share a result."""
    workspace = Workspace()
    for update in ("independent", "joint"):
        relative = MLP.replace(damping=0.5, damping_scale="relative", update=update)
        damping = workspace.damping(relative)
        rows = workspace.rows(relative, Stopwatch()).double()
        assert damping == pytest.approx(0.5 * float(rows.square().mean()), rel=1e-12)
        absolute = relative.replace(damping=damping, damping_scale="absolute")
        assert same(workspace.outcome(relative), Workspace().outcome(absolute))
        assert workspace.loss_change(relative) == Workspace().loss_change(absolute)
        assert workspace.report(relative).damping == damping
        assert not same(workspace.outcome(relative), workspace.outcome(relative.replace(damping_scale="absolute")))
    assert workspace.report(MLP.replace(method="diagonal-fisher", update="none")).damping is None


@pytest.mark.parametrize(
    "change", [{}, {"labels": "sampled"}, {"held_out": 0}, {"method": "magnitude", "update": "none"}]
)
def test_the_held_out_part_of_the_loss_change(change):
    """Asked for alone, in whatever order and beside other sample counts, it is the one of the whole."""
    workspace, config = Workspace(), MLP.replace(**change)
    for count in (120, 40):
        one = config.replace(num_samples=count)
        predicted, measured = workspace.held_out_change(one)
        whole = Workspace().loss_change(one)
        assert (predicted, measured) == (whole.predicted_held_out, whole.measured_held_out)
