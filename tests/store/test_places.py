"""What names a place for runs, and what is said of those that do not."""

from pathlib import Path

import pytest

from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.store import Store
from woodfisher_core.store.places import artefacts_folder, parse_url, shown


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("runs.db", "{here}/runs.db"),
        ("sqlite:///runs.db", "{here}/runs.db"),
        ("sqlite:////somewhere/runs.db", "/somewhere/runs.db"),
        ("~/runs.db", "{home}/runs.db"),
        (r"C:\runs\a.db", r"{here}/C:\runs\a.db"),
        ("C:/runs/a.db", "{here}/C:/runs/a.db"),
        ("C://runs/a.db", "{here}/C:/runs/a.db"),
        ("folder", "{here}/folder/runs.sqlite"),
        ("a b?c#d%20.db", "{here}/a b?c#d%20.db"),
        (None, "{here}/data/woodfisher/runs.sqlite"),
        ("", "{here}/data/woodfisher/runs.sqlite"),
    ],
)
def test_files(place, expected, tmp_path, monkeypatch):
    """Paths and SQLite's URLs, relative to the folder one is in; a drive's letter is no scheme."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("WOODFISHER_STORE", raising=False)
    (tmp_path / "folder").mkdir()
    url = parse_url(place)
    assert url.drivername == "sqlite"
    assert url.database == expected.format(here=tmp_path, home=Path.home())
    assert artefacts_folder(url) == Path(f"{url.database}.artefacts")


def test_the_environment_names_the_default(tmp_path, monkeypatch):
    """$WOODFISHER_STORE, a file or a URL; a place given goes before it."""
    monkeypatch.setenv("WOODFISHER_STORE", "postgresql://host/runs")
    assert parse_url(None).drivername == "postgresql+psycopg"
    assert parse_url(tmp_path / "a.db").database == str(tmp_path / "a.db")


def test_odd_names_are_names(tmp_path):
    """Characters that mean something in URLs are only characters in paths."""
    place = tmp_path / "a b?c#d%20é.db"
    Store(place).close()
    Store(place).close()
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize(
    "place",
    [
        *(":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///a.db?mode=memory&uri=true", "file:a.db?mode=ro"),
        *("mysql://user:geheim@host/runs", "https://user:geheim@host", "file:///tmp/a.db", "a\0b", "~nobodysuch/a.db"),
        *("postgresql://user:geheim@host:port/runs", "postgresql://user:geheim", "ab://geheim@"),
        "x" * 5000,
    ],
)
def test_what_names_no_place_is_refused(place):
    """In words that repeat no password."""
    with pytest.raises(InputError, match="store: ") as caught:
        parse_url(place)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://user:geheim@127.0.0.1:1/runs",
        "postgres://user@127.0.0.1:1/runs?password=geheim",
        "postgresql+psycopg2://user:geheim@127.0.0.1:1/runs",
        "postgresql://user:geheim@/runs?host=/nowhere",
    ],
)
def test_an_unreachable_server_is_said_without_its_password(place):
    """Which server, and what to check."""
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=r"cannot reach postgresql.*Check that it runs") as caught:
        Store(place)
    assert "geheim" not in str(caught.value)
    assert "geheim" not in shown(parse_url(place))
