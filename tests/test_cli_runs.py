"""``runs`` on the command line: lists, filters, comparisons, exports that come back, and errors in one line."""

import csv
import dataclasses
import io
import json

import pytest
from sqlalchemy.engine import make_url

from woodfisher_core import cli
from woodfisher_core.experiments import PruneConfig, Workspace
from woodfisher_core.experiments.remember import failed_record, record_of
from woodfisher_core.store import Store

METHODS = ("magnitude", "woodfisher", "diagonal-fisher")


@pytest.fixture(scope="module")
def records():
    """Three runs of the embedded MLP, the second with a curve, and one that failed."""
    space = Workspace()
    config = PruneConfig(model="digits-mlp", num_samples=50, held_out=0, sparsity=0.8)
    made = []
    for method in METHODS:
        one = config.replace(method=method, update=None)
        curve = space.curve(one, (0.5, 0.9)) if method == "woodfisher" else ()
        made.append(record_of(space.report(one), origin="test", curve=curve))
    failed = space.resolve(config.replace(damping=1e-2))
    return (*made, failed_record(failed, ArithmeticError("a pivot\nvanished"), origin="test"))


@pytest.fixture
def store(tmp_path, records, monkeypatch) -> Store:
    """They are runs 1 to 4 of the store that is used where --store is left out."""
    monkeypatch.setenv("WOODFISHER_STORE", str(tmp_path / "runs.sqlite"))
    opened = Store()
    assert [opened.save(record) for record in records] == [1, 2, 3, 4]
    return opened


def told(capsys, *arguments: str) -> str:
    assert cli.main(["runs", *arguments]) == 0
    return capsys.readouterr().out


def listed(capsys, *arguments: str) -> list[int]:
    return [run["id"] for run in json.loads(told(capsys, "list", "--json", *arguments))]


def refused(capsys, *arguments: str) -> str:
    """The one line on standard error; nothing on standard output."""
    assert cli.main(["runs", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_the_list_is_readable(store, capsys):
    """The newest first, only the settings that differ, an error on its line."""
    lines = told(capsys, "list").splitlines()
    assert lines[0].split() == [
        "id",
        "model",
        "method",
        "sparsity",
        "accuracy",
        "loss",
        "status",
        "error",
        *(["damping", "update", "created"]),
    ]
    assert [line.split()[0] for line in lines[1:]] == ["4", "3", "2", "1"]
    assert "a pivot vanished" in lines[1]
    accuracy = store.get(2).headline["accuracy"]
    assert f"{accuracy:.2f}" in lines[3]
    assert "num_samples" in told(capsys, "list", "--all-columns")


def test_the_list_filtered(store, capsys):
    best = max((store.get(i).headline["accuracy"], i) for i in (1, 2, 3))
    assert listed(capsys) == [4, 3, 2, 1]
    assert listed(capsys, "--method", "magnitude", "--method", "woodfisher") == [4, 2, 1]
    assert listed(capsys, "--status", "done", "--limit", "2") == [3, 2]
    assert listed(capsys, "--min-accuracy", str(best[0])) == [best[1]]
    assert listed(capsys, "--min-sparsity", "0.85") == []
    assert listed(capsys, "--where", "damping>1e-3") == [4]
    assert listed(capsys, "--where", "update=none", "--where", "method!=magnitude") == [3]
    assert listed(capsys, "--model", "mlpnet") == []
    assert "none of 4 runs match" in told(capsys, "list", "--model", "mlpnet")
    assert told(capsys, "list", "--limit", "1").splitlines()[-1] == "… and 3 more; see them with --limit 0"


def test_the_list_as_csv_and_json(store, capsys):
    rows = list(csv.DictReader(io.StringIO(told(capsys, "list", "--csv"))))
    assert [row["method"] for row in rows] == ["woodfisher", *reversed(METHODS)]
    assert float(rows[1]["accuracy"]) == store.get(3).headline["accuracy"]
    failed = json.loads(told(capsys, "list", "--json"))[0]
    assert failed["accuracy"] is None
    assert failed["exclude"] == []
    assert failed["error"] == "ArithmeticError: a pivot\nvanished"


def test_an_empty_store(tmp_path, capsys):
    place = str(tmp_path / "new" / "runs.sqlite")
    assert told(capsys, "list", "--store", place) == f"no runs in {place}\n"
    assert json.loads(told(capsys, "list", "--json", "--store", place)) == []


def test_one_run(store, capsys):
    """Everything about it, by number or by the beginning of its key."""
    key = store.get(2).key
    found = json.loads(told(capsys, "show", key[:10], "--json"))
    assert (found["id"], found["key"], found["config"]["method"]) == (2, key, "woodfisher")
    assert {m["step"] for m in found["metrics"]} == {0, 1, 2}
    text = told(capsys, "show", "2")
    for row in found["layers"]:
        assert f"{row['layer']}  {row['kept']:,} of {row['total']:,} kept" in text
    assert text.count("  accuracy ") == 3, "its own and two on its curve"
    assert "a pivot vanished" in told(capsys, "show", "4")


def test_a_gradual_run(store, capsys):
    """Its settings go by the names that other runs have for them."""
    from woodfisher_core.experiments.gradual import GradualConfig
    from woodfisher_core.schedules import GradualSchedule

    schedule = GradualSchedule(final=0.7, end_epoch=3)
    config = GradualConfig(prune=PruneConfig(model="digits-cnn", damping=0.03), schedule=schedule, epochs=9)
    record = dataclasses.replace(store.get(1), kind=config.kind, key=config.key, config=config.to_dict())
    number = store.save(record)
    lines = [line.split() for line in told(capsys, "show", str(number)).splitlines()]
    assert [line[1] for line in lines if line[0] == "damping"] == ["0.03"]
    assert listed(capsys, "--where", "damping=0.03", "--where", "schedule.final=0.7") == [number]
    columns = told(capsys, "list").splitlines()[0].split()
    assert not [name for name in columns if name.startswith("prune.")]
    assert "schedule.final" in columns


def test_runs_side_by_side(store, capsys):
    """Differences are against the first that is named."""
    accuracies = [store.get(i).headline["accuracy"] for i in (2, 1)]
    found = json.loads(told(capsys, "compare", "2", "1", "2", "--json"))
    assert found["baseline"] == 2
    assert set(found["differing"]) == {"method", "update"}
    assert [run["id"] for run in found["runs"]] == [2, 1]
    assert [run["accuracy_difference"] for run in found["runs"]] == [0.0, accuracies[1] - accuracies[0]]
    lines = {line[:16].strip(): line for line in told(capsys, "compare", "2", "1").splitlines()}
    assert f"{accuracies[1] - accuracies[0]:+.2f}" in lines["accuracy −first"]
    assert "damping" not in lines
    assert "damping" in told(capsys, "compare", "2", "1", "--all-columns")
    assert told(capsys, "compare", "2", "4", "--csv").count("\n") > 2


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_comes_back(store, tmp_path, capsys, form):
    path, other = str(tmp_path / "export.zip"), str(tmp_path / "other.sqlite")
    assert told(capsys, "export", path, "1", "2", "--format", form) == f"{path}: 2 runs\n"
    assert told(capsys, "import", path, "--store", other) == f"{path}: 2 new, 0 here already\n"
    assert told(capsys, "import", path, "--store", other) == f"{path}: 0 new, 2 here already\n"
    assert sorted(run.method for run in Store(other).runs().itertuples()) == ["magnitude", "woodfisher"]


def test_deleted_restored_renamed(store, capsys):
    assert told(capsys, "delete", "1", "3") == "deleted 1 3; undo with: runs restore 1 3\n"
    assert listed(capsys) == [4, 2]
    assert listed(capsys, "--deleted") == [3, 1]
    told(capsys, "restore", "3")
    assert listed(capsys) == [4, 3, 2]
    told(capsys, "rename", "2", "first try")
    assert listed(capsys, "--label", "FIRST") == [2]
    assert "first try" in told(capsys, "list")
    told(capsys, "rename", "2", "")
    assert store.get(2).label == ""


@pytest.mark.parametrize("name", ["3", "#3", "key"])
def test_a_deleted_run_is_said_to_be(store, capsys, name):
    """And how to bring it back, whichever command asks for it."""
    name = store.get(3).key[:12] if name == "key" else name
    told(capsys, "delete", "3")
    for command in (("show",), ("delete",), ("compare", "1"), ("export", "x.zip")):
        assert refused(capsys, *command, name) == "error: run 3 is deleted; bring it back with: runs restore 3\n"
    assert "run 3 is deleted" in refused(capsys, "rename", name, "x")
    told(capsys, "restore", name)
    assert listed(capsys) == [4, 3, 2, 1]


def test_several_runs_of_one_beginning_are_none_that_is_deleted(store, capsys):
    """The error is about those that are there."""
    record = store.get(1)
    for end in "abc":
        store.save(dataclasses.replace(record, key="123456" + end * 58))
    told(capsys, "delete", "123456c")
    assert "2 keys begin with 123456" in refused(capsys, "show", "123456")
    assert "run 7 is deleted" in refused(capsys, "show", "123456c")


def test_purged(store, capsys):
    """Only what is deleted, and for good."""
    assert told(capsys, "purge") == "removed 0 deleted runs for good\n"
    told(capsys, "delete", "3")
    assert told(capsys, "purge") == "removed 1 deleted run for good\n"
    assert listed(capsys, "--deleted") == []
    assert listed(capsys) == [4, 2, 1]
    assert "there is no deleted run 3 in" in refused(capsys, "restore", "3")


@pytest.mark.parametrize("command", ["runs list", "runs show 9", "jobs list", "jobs show 9"])
def test_no_password_is_ever_printed(tmp_path, monkeypatch, capsys, command):
    """Wherever in the URL it stands; the server is named."""
    group, *arguments = command.split()

    def elsewhere(place: str | None) -> Store:
        opened = Store(tmp_path / "runs.sqlite")
        opened.url = make_url("postgresql+psycopg://host/base?user=me&password=geheim")
        return opened

    monkeypatch.setattr(f"woodfisher_core.commands.{group}.Store", elsewhere)
    cli.main([group, *arguments])
    said = "".join(capsys.readouterr())
    assert "postgresql+psycopg://host/base" in said
    assert "geheim" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "9"), "run: there is no run 9 in"),
        (("show", "#9"), "run: there is no run 9 in"),
        (("show", "00"), "run: there is no run 00 in"),
        (("compare", "1", "zebra"), "got 'zebra'"),
        (("delete", "1", "9"), "there is no run 9 in"),
        (("restore", "1"), "run 1 is not deleted."),
        (("restore", "9"), "there is no deleted run 9 in"),
        (("rename", "9", "x"), "there is no run 9 in"),
        (("export", "x.zip", "9"), "there is no run 9 in"),
        (("import", "nowhere.zip"), "nowhere.zip"),
        (("list", "--where", "damping~1"), "where: expected FIELD=VALUE"),
        (("list", "--where", "dampng<1"), "no run has a field 'dampng'"),
        (("list", "--where", "damping<x"), "expects a number, got 'x'"),
        (("list", "--limit", "-1"), "limit: expected"),
        (("list", "--store", "mysql://host/base"), "store: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_in_one_line(store, capsys, monkeypatch, tmp_path, arguments, said):
    """And nothing is changed by them."""
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *arguments)
    assert listed(capsys) == [4, 3, 2, 1]


def test_a_file_that_is_no_store(tmp_path, capsys):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at")
    assert "no SQLite file" in refused(capsys, "list", "--store", str(path))
