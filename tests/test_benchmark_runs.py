"""The run store's benchmark: it measures every task on real configs, and leaves nothing behind."""

import json

import pytest

from woodfisher_core.benchmarks import __main__ as program
from woodfisher_core.store import Store


def test_it_measures_and_cleans_up(tmp_path, capsys):
    """Every task several times; the store given is empty afterwards."""
    place, file = tmp_path / "runs.sqlite", tmp_path / "result.json"
    assert program.main(["runs", "--runs", "60", "--store", str(place), "--json", str(file)]) == 0
    out, err = capsys.readouterr()
    result = json.loads(file.read_text())
    assert result["runs"] == 60
    assert 0 < result["filtered"] < 60
    assert result["saves_per_second"] > 0
    assert all(len(took) == 5 and min(took) > 0 for took in result["seconds"].values())
    assert all(f"| {task} |" in out for task in result["seconds"])
    assert "60 of 60 runs" in err
    store = Store(place)
    assert len(store.runs()) == len(store.runs(deleted=True)) == 0
    store.close()


def test_it_leaves_a_store_in_use_alone(tmp_path, capsys):
    """Runs that are there are nobody's to fill up or remove."""
    from woodfisher_core.benchmarks import runs

    place = tmp_path / "runs.sqlite"
    store = Store(place)
    store.save(next(runs._records()))
    assert program.main(["runs", "--runs", "60", "--store", str(place)]) == 2
    assert "expected an empty store" in capsys.readouterr().err
    assert len(store.runs()) == 1
    store.close()


@pytest.mark.parametrize("arguments", [["--runs", "0"], ["--store", ":memory:"]])
def test_it_refuses_what_it_cannot_use(arguments, capsys):
    """In one line."""
    assert program.main(["runs", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
