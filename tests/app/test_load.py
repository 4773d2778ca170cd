"""The load script against a real server: everyone is told his own numbers, and what goes wrong is said."""

import re

import pytest

from app import load
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.options import Solver


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The app in a process of its own."""
    monkeypatch.setenv("WOODFISHER_ASK_SECONDS", "3600")
    with load.server() as found:
        yield found


def test_everyone_is_told_his_own_numbers(server):
    """Two people at once, at settings of their own, read what these settings give."""
    port, _ = server
    space = Workspace()
    with load.session(port) as first, load.session(port) as second:
        for page, sparsity in ((first, 0.5), (second, 0.9)):
            page.run(f"samples=100&sparsity={sparsity}")
        first.slide("damping", "1e-1")
        second.slide("sparsity", 0.85)
        for page, sparsity, damping in ((first, 0.5, 1e-1), (second, 0.85, 1e-3)):
            config = PruneConfig(
                model="digits-mlp", num_samples=100, sparsity=sparsity, damping=damping, solver=Solver.SPECTRAL
            )
            assert page.metrics["Accuracy"] == f"{space.evaluation(config).accuracy:.2f}\u00a0%"
            assert page.problems == []


def test_the_report(capsys):
    """A small crowd: times, memory, and that nothing went wrong."""
    little = [
        "--sessions",
        "2",
        "--seconds",
        "3",
        "--every",
        "1",
        "--samples",
        "100",
        "--alone",
        "3",
        "--pages",
        "trust",
    ]
    assert load.main(little) == 0
    said = capsys.readouterr().out
    assert re.search(r"one person, \d+ changes: median \d", said)
    assert re.search(r"trust, \d+ changes: median", said)
    assert re.search(r"2 people, \d+ changes: ", said)
    assert re.search(r"memory: \d+ MB before, \d+ MB at most", said)
    assert "nobody was told another's numbers" in said


def test_different_words_for_one_setting_are_found():
    """Pages that say different things of a setting, or nothing, are named."""
    change = load.Change(0.5, "1e-3", 0.1, "90.00 %")
    other = load.Change(0.5, "1e-3", 0.1, "91.00 %")
    silent = load.Change(0.6, "1e-3", 0.1, "")
    assert load.mixed_up([change, change]) == []
    assert len(load.mixed_up([change, other, silent])) == 2


def test_times_are_told():
    """Median, 95th percentile and worst; nothing of a single one."""
    assert load.summary([0.1] * 19 + [0.2]).startswith("median 0.100 s, 95th percentile 0.1")
    assert load.summary([0.1] * 19 + [0.2]).endswith("worst 0.200 s")
    assert load.summary([0.1]) == "too few to tell"
