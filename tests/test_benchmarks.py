"""The benchmarks' own arithmetic: what a case says was measured, and the command line around it."""

import json
import tempfile
import time

import pytest
import torch
from torch import nn

from woodfisher_core.benchmarks import __main__ as program
from woodfisher_core.benchmarks import rivals, speed, table
from woodfisher_core.benchmarks.bench import Bench, difference
from woodfisher_core.benchmarks.cases import CASES, LARGE, large, libraries
from woodfisher_core.benchmarks.cases.slopes import SWEEPS, TERMS, binding_term, fit_slope
from woodfisher_core.benchmarks.operations import diagonal_operations, gradient_operations
from woodfisher_core.benchmarks.peak import OPEN_FILES, PeakDisk, PeakMemory
from woodfisher_core.benchmarks.result import OURS, CaseResult, Measured, Target
from woodfisher_core.benchmarks.timing import GemmRate, OtherLoad, interleaved
from woodfisher_core.experiments import Workspace
from woodfisher_core.experiments.config import SHIPPED
from woodfisher_core.fisher import Blocks
from woodfisher_core.fisher.blocks import Run
from woodfisher_core.gradients import gradient_matrix
from woodfisher_core.parameters import PrunableParameters

MIB = 1 << 20


def a_case(**changes) -> CaseResult:
    """Ours 2 s (10 MiB), a rival 3 s, a slow one 10 s measured on a fourth of the problem."""
    values = {
        "title": "a title",
        "setting": "a setting",
        "bound_by": "reading",
        "measured": Measured(
            {OURS: [1.0, 2.0, 9.0], "rival": [3.0, 3.0, 3.0], "slow": [10.0]}, {OURS: 10 * MIB, "rival": 20 * MIB}
        ),
        "factors": {"slow": 4.0},
        "bytes": {"G": 8 * MIB},
    }
    return CaseResult(**{**values, **changes})


def a_bench(repeats: int = 1) -> Bench:
    return Bench(repeats, torch.device("cpu"), SHIPPED, None, None, None, Workspace(), lambda text: None)


def test_medians_and_ratios():
    """Medians, scaled where the case scales, over our median."""
    case = a_case()
    assert case.medians == {OURS: 2.0, "rival": 3.0, "slow": 40.0}
    assert case.ratios == {"rival": 1.5, "slow": 20.0}


TARGETS = {
    "seconds": (Target(2.5), "ours in at most 2.5 s", 2.0, True),
    "seconds missed": (Target(1.5), "ours in at most 1.5 s", 2.0, False),
    "exactly": (Target(2.0), "ours in at most 2 s", 2.0, True),
    "times a contestant": (Target(0.7, than="rival"), "ours at least 1.429 × faster than rival", 2 / 3, True),
    "times, missed": (Target(0.6, than="rival"), "ours at least 1.667 × faster than rival", 2 / 3, False),
    "faster": (Target(0.05, than="slow"), "ours at least 20 × faster than slow", 0.05, True),
    "another contestant": (Target(1.25, than=OURS, who="rival"), "rival at most 1.25 × ours", 1.5, False),
    "memory": (Target(1.3, than="G", memory=True), "peak memory of ours at most 1.3 × G", 1.25, True),
    "memory missed": (
        Target(2.0, than="G", who="rival", memory=True),
        "peak memory of rival at most 2 × G",
        2.5,
        False,
    ),
}


@pytest.mark.parametrize("name", list(TARGETS))
def test_targets(name):
    """What a target says, the value held against it, and the verdict in the JSON."""
    target, text, reached, met = TARGETS[name]
    case = a_case(targets=(target,))
    (said,) = case.to_json(GemmRate(1, 1.0, 1.0))["targets"]
    assert said["text"] == text
    assert said["reached"] == pytest.approx(reached)
    assert said["met"] is met


def test_reached_is_said_as_the_goal_is():
    """A speed-up is shown as a speed-up, a time in seconds, the rest as a ratio."""
    values = [
        Target(0.1, than="slow").reached_text(0.05),
        Target(1.0).reached_text(0.5),
        Target(2, "x").reached_text(1.5),
    ]
    assert values == ["20 ×", "0.5 s", "1.5 ×"]


def test_share_of_the_product_rate():
    """Operations over median seconds over the rate: 3e9 in 2 s on a machine of 5 GFLOP/s is 30 %."""
    case = a_case(operations={OURS: 3e9, "slow": 4e9})
    assert case.shares(5.0) == {OURS: pytest.approx(0.3), "slow": pytest.approx(0.02)}


def test_markdown_tells_everything():
    """Each contestant's row, fewer turns, memory, targets met and missed, rates, slopes, and who was left out."""
    case = a_case(
        targets=(Target(1.0, than="rival"), Target(1.0)),
        operations={OURS: 3e9},
        slopes={"N": 2.0, "B": -0.5},
        left_out={"BackPACK": "not installed"},
        differences={"rival": 1e-6},
        note="A note.",
    )
    rates = {"float32": 5.0, "float64": 2.0}
    where = {"cpu": "a processor", "threads": 1, "cpus": 2, "device": "cpu", "torch": "2"}
    result = {
        "machine": where,
        "repeats": 3,
        "gflops": {"before": rates, "after": rates},
        "cpu_share_of_others": 0.3,
        "cases": {"mine": case.to_json(GemmRate(1, 5.0, 2.0))},
    }
    text = table.to_markdown(json.loads(json.dumps(result)))
    for expected in (
        "Other processes took 30% of the CPUs meanwhile: **not a quiet machine**.",
        "| mine | ours | 2 | 1 – 9 | 1 | 10.0 MiB |",
        "|  | rival | 3 | 3 – 3 | 1.5 | 20.0 MiB |",
        "|  | slow (scaled) (1 of 3 turns) | 40 | 40 – 40 | 20 |  |",
        "BackPACK: left out, not installed",
        "Target: ours at most 1 × rival: met (0.667 ×).",
        "Target: ours in at most 1 s: NOT met (2 s).",
        "ours needs 3 × 10⁹ operations, done at 30% of the float32 product rate",
        "Time grows as N^2.00, B^-0.50.",
        "A note.",
    ):
        assert expected in text


def test_turns_interleave_and_the_rare_ones_are_rare():
    """A B A B after an unmeasured round; a rare contestant in the first measured turns only."""
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ABC"}
    seconds = interleaved(contestants, repeats=3, rarely={"C": 2})
    assert "".join(calls) == "AB" + "ABC" + "ABC" + "AB"
    assert {name: len(runs) for name, runs in seconds.items()} == {"A": 3, "B": 3, "C": 2}


def test_other_load_counts_others_only(monkeypatch):
    """In 10 s two CPUs worked 12 s, 7 of them for us: others took a quarter of the 20 s there were."""
    load = OtherLoad()
    then = load._start
    monkeypatch.setattr("psutil.cpu_count", lambda: 2)
    monkeypatch.setattr(load, "_look", lambda: (then[0] + 10.0, then[1] + 12.0, then[2] + 7.0))
    assert load.share() == pytest.approx(0.25)
    assert all(now >= before for now, before in zip(OtherLoad()._start, then, strict=True))


def test_peak_memory_sees_an_allocation():
    """64 MiB held for a moment and gone again; nothing where nothing is allocated."""
    with PeakMemory() as idle:
        time.sleep(0.03)
    with PeakMemory() as peak:
        held = torch.ones(64 * MIB, dtype=torch.uint8)
        time.sleep(0.05)
        del held
    assert idle.extra_bytes < 8 * MIB
    assert 64 * MIB <= peak.extra_bytes < 80 * MIB


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system does not list a process's open files")
def test_peak_disk_sees_a_temporary_file():
    """3 MiB in a file that never had a name and goes again; a file with a name is no scratch."""
    with PeakDisk() as disk, tempfile.NamedTemporaryFile() as named:
        named.write(b"x" * MIB)
        with tempfile.TemporaryFile(buffering=0) as scratch:
            scratch.write(b"x" * (3 * MIB))
            time.sleep(0.03)
    assert 3 * MIB <= disk.extra_bytes < 3 * MIB + 65536


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.5, 3.0])
def test_slopes_recover_an_exponent(exponent):
    """seconds = 7 · sizeᵖ gives p."""
    sizes = [128, 256, 1024, 4096]
    assert fit_slope(sizes, [7.0 * size**exponent for size in sizes]) == pytest.approx(exponent, abs=1e-12)


@pytest.mark.parametrize("term", list(TERMS))
def test_binding_term_is_the_nearest(term):
    """Slopes of one term alone, a little off, name that term."""
    found = {name: power + 0.2 for name, power in zip("NdB", TERMS[term], strict=True)}
    assert binding_term(found) == term


def test_sweeps_change_one_size_and_stay_dual():
    """Each sweep varies its own variable only, with more weights in a block than samples, and whole blocks."""
    for name, sweep in SWEEPS.items():
        varying = ["NdB"[i] for i in range(3) if len({size[i] for size in sweep}) > 1]
        assert varying == [name]
        assert all(n < block and d % block == 0 for n, d, block in sweep)


def test_plane_counts_are_geometric():
    """Together the counts cost a third more than the largest."""
    counts = large.PLANE_COUNTS
    assert sum(n**2 for n in counts) / counts[-1] ** 2 == pytest.approx(4 / 3, abs=0.01)
    assert len(large.PLANE_DAMPINGS) == 25
    assert (large.PLANE_DAMPINGS[0], large.PLANE_DAMPINGS[-1]) == (pytest.approx(1e-6), pytest.approx(1.0))


def test_operations_of_the_diagonal():
    """Both sides by hand: 2 N²B + ⅔ N³ for N < B, N B² + B³ else."""
    wide, narrow = Blocks((Run(0, 2, 100),)), Blocks((Run(0, 3, 4),))
    assert diagonal_operations(10, wide) == pytest.approx(2 * (2 * 100 * 100 + 2000 / 3))
    assert diagonal_operations(10, narrow) == pytest.approx(3 * (10 * 16 + 64))


def test_operations_of_a_gradient():
    """A linear layer 6 to 3 needs 36 forward and 36 for its weight's gradient, none for the inputs'."""
    model = nn.Sequential(nn.Linear(6, 3)).eval()
    parameters = PrunableParameters.from_model(model)
    assert gradient_operations(model, parameters, torch.ones(1, 6), torch.zeros(1, dtype=torch.long)) == 72.0


def test_measure_times_and_weighs():
    """Every contestant is timed as often as asked and weighed, but for the rare ones."""
    measured = a_bench(repeats=2).measure(
        {"big": lambda: torch.ones(40 * MIB, dtype=torch.uint8), "slow": lambda: time.sleep(0.01)}, rarely={"slow": 1}
    )
    assert [len(runs) for runs in measured.seconds.values()] == [2, 1]
    assert measured.seconds["slow"][0] >= 0.01
    assert set(measured.peak_bytes) == {"big"}
    assert measured.peak_bytes["big"] >= 40 * MIB


def small_problem():
    """Rows of a small network with what made them."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()
    inputs, targets = torch.randn(9, 1, 6, 6, generator=generator), torch.randint(3, (9,), generator=generator)
    parameters = PrunableParameters.from_model(model)
    return model, parameters, inputs, targets, gradient_matrix(model, parameters, [(inputs, targets)], 9)


@pytest.mark.skipif(rivals.load("backpack") is None, reason="BackPACK is not installed (the extra [bench])")
def test_backpack_computes_the_same_rows():
    """BatchGrad's rows are ours, at a second call too."""
    model, parameters, inputs, targets, rows = small_problem()
    theirs = rivals.batch_grad(model, parameters)
    for _ in range(2):
        assert difference(theirs(inputs, targets), rows) < 1e-5


@pytest.mark.skipif(rivals.load("curvlinops") is None, reason="curvlinops is not installed (the extra [bench])")
def test_curvlinops_computes_the_same_products():
    """F x and (F + λI)⁻¹ x against dense float64."""
    model, parameters, inputs, targets, rows = small_problem()
    operators = rivals.FisherOperators(model, parameters, inputs, targets)
    x = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(1))
    fisher = rows.double().mT @ rows.double() / len(rows)
    assert difference(operators.product(x), fisher @ x.double()) < 1e-5
    damped = fisher + 0.1 * torch.eye(len(fisher), dtype=torch.float64)
    assert difference(operators.inverse_product(x, 0.1, 1e-6, 1000), torch.linalg.solve(damped, x.double())) < 1e-4


def test_an_absent_library_is_left_out(monkeypatch):
    """Without curvlinops the case still runs and says who is missing."""
    monkeypatch.setattr(libraries, "load", lambda name: None)
    model, parameters, inputs, targets, rows = small_problem()
    case = libraries._products(a_bench(), "small", model, parameters, rows, inputs, targets)
    assert list(case.measured.seconds) == [OURS]
    assert "[bench]" in case.left_out["curvlinops"]


def test_loading_libraries(tmp_path, monkeypatch):
    """None for what is not installed; but what is installed and broken says so."""
    (tmp_path / "broken_rival.py").write_text("import surely_not_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert rivals.load("surely_not_here") is None
    assert rivals.load("json") is json
    with pytest.raises(ModuleNotFoundError, match="surely_not_here"):
        rivals.load("broken_rival")


def test_cases_are_documented_and_the_large_ones_side_by_side():
    """Each case's first line is its help; those that share rows follow each other, so that the rows are made once."""
    assert all(case.__doc__.splitlines()[0].endswith(".") for case in CASES.values())
    places = [index for index, name in enumerate(CASES) if name in LARGE]
    assert len(places) == len(LARGE)
    assert places == list(range(places[0], places[-1] + 1))


@pytest.fixture
def tiny_cases(monkeypatch):
    """Two cases that take no time, the first of them sharing the large rows; what they saw."""
    seen = []

    def sharing(bench: Bench) -> CaseResult:
        """Shares."""
        bench.__dict__["resnet20_rows"] = torch.ones(1)
        seen.append(bench)
        return a_case(operations={OURS: 1e9})

    def alone(bench: Bench) -> CaseResult:
        """Stands alone."""
        seen.append("resnet20_rows" in bench.__dict__)
        return a_case()

    for name, case in (("sharing", sharing), ("alone", alone)):
        monkeypatch.setitem(CASES, name, case)
    monkeypatch.setattr(speed, "LARGE", frozenset({"sharing"}))
    monkeypatch.setattr(speed, "gemm_rate", lambda device: GemmRate(2, 5.0, 2.0))
    return seen


def test_speed_runs_cases_and_frees_what_they_share(tiny_cases):
    """Shared rows are gone as soon as no later case wants them; shares are taken of the mean rate."""
    result = speed.run(["sharing", "alone"])
    assert tiny_cases[1] is False
    assert result["cases"]["sharing"]["share_of_float32_product_rate"][OURS] == pytest.approx(0.1)
    speed.run(["sharing", "alone", "sharing"])
    assert tiny_cases[3] is True


def test_command_line_writes_a_table_and_json(tiny_cases, tmp_path, capsys):
    """Without a name of a benchmark it is ``speed``."""
    file = tmp_path / "result.json"
    assert program.main(["--case", "alone", "--repeats", "3", "--json", str(file)]) == 0
    assert "| alone | ours | 2 |" in capsys.readouterr().out
    written = json.loads(file.read_text())
    assert written["cases"]["alone"]["seconds"][OURS] == [1.0, 2.0, 9.0]
    assert written["benchmark"] == "speed"


def test_bare_command_line_is_the_whole_matrix(monkeypatch, capsys):
    """No argument at all: ``speed`` with every case."""
    asked = []
    monkeypatch.setattr(speed, "run", lambda *values: asked.append(values) or {"cases": {}})
    monkeypatch.setattr(table, "to_markdown", lambda result: "a table")
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    assert program.main() == 0
    assert capsys.readouterr().out == "a table\n"
    assert asked[0][:2] == (None, 5)


REFUSED = {
    "bare case": (["--case", "nonsense"], "case: expected one of parity"),
    "speed case": (["speed", "--case", "nonsense"], "got 'nonsense'"),
    "repeats": (["speed", "--repeats", "0"], "repeats: expected at least 1, got 0"),
    "threads": (["--threads", "0"], "threads: expected at least 1, got 0"),
    "no images": (["--case", "dual", "--resnet20-images", "nowhere"], "one folder of images a class, got 'nowhere'"),
    "scale model": (["scale", "--model", "nonsense"], "model: expected one of resnet50, mobilenet-v1, got 'nonsense'"),
    "image size": (["scale", "--model", "resnet50", "--image-size", "8"], "image size: expected at least 32 pixels"),
    "block size": (["scale", "--model", "mobilenet-v1", "--image-size", "32", "--block-size", "x"], "block size"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_bad_requests_are_refused(name, capsys, monkeypatch):
    """Status 2, one line of error, nothing on standard output."""
    arguments, message = REFUSED[name]
    monkeypatch.setattr(speed, "gemm_rate", lambda device: GemmRate(2, 5.0, 2.0))
    assert program.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in captured.err
