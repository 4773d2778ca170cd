"""Files of runs: there whole or not at all, what is read is what was written, and they go when no run names them."""

import hashlib
import os
import time

import pytest
from samples import PROCESSES, sample

from woodfisher_core.errors import InputError, StoreError
from woodfisher_core.store import artefacts


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def age(folder, seconds: float = 3600) -> None:
    """Makes every file so much older."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - seconds,) * 2)


def test_bytes_and_files_by_their_content(tmp_path):
    """Equal content is one file under its sha256, whoever brings it."""
    folder, content = tmp_path / "a" / "artefacts", os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    entry = artefacts.put(folder, content)
    assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": 3_000_000}
    assert artefacts.put(folder, tmp_path / "file") == entry
    assert files(folder) == [entry["sha256"]]
    assert artefacts.path_of(folder, entry["sha256"]).parent.name == entry["sha256"][:2]
    assert artefacts.get(folder, entry["sha256"]) == content
    assert artefacts.get(folder, artefacts.put(folder, b"")["sha256"]) == b""


def test_damage_is_seen_and_mended(tmp_path):
    """A changed byte is an error in words, in memory or not; keeping it again mends it."""
    entry = artefacts.put(tmp_path, b"weights")
    path = artefacts.path_of(tmp_path, entry["sha256"])
    path.write_bytes(b"Weights")
    for read in (artefacts.get, artefacts.verify):
        with pytest.raises(StoreError, match="is damaged"):
            read(tmp_path, entry["sha256"])
    artefacts.put(tmp_path, b"weights")
    assert artefacts.get(tmp_path, entry["sha256"]) == b"weights"
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        artefacts.get(tmp_path, entry["sha256"])
    with pytest.raises(StoreError, match="is gone"):
        artefacts.verify(tmp_path, entry["sha256"])


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", "A" * 64, "0" * 63 + "\n", None])
def test_only_hashes_name_files(name, tmp_path):
    """A name from elsewhere leads nowhere."""
    with pytest.raises(InputError, match="expected 64 hex digits"):
        artefacts.get(tmp_path, name)


def test_what_cannot_be_read_or_kept(tmp_path):
    """A missing file, a file where the folder should be."""
    with pytest.raises(InputError, match="cannot read"):
        artefacts.put(tmp_path, tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot keep a file"):
        artefacts.put(tmp_path / "file", b"a")
    assert files(tmp_path) == ["file"]


def put_and_die(folder) -> None:
    """Is killed in the middle of writing."""

    class Dying:
        def read(self, size):
            if getattr(self, "begun", False):
                os.kill(os.getpid(), 9)
            self.begun = True
            return b"a" * 1000

    artefacts.put_stream(folder, Dying())


def test_a_killed_writer_leaves_no_file_of_that_name(tmp_path):
    """Only a part, which goes when it is old."""
    writer = PROCESSES.Process(target=put_and_die, args=(tmp_path,))
    writer.start()
    writer.join()
    assert writer.exitcode == -9
    assert [name.endswith(".part") for name in files(tmp_path)] == [True]
    assert artefacts.sweep(tmp_path, set()) == 0
    age(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    assert artefacts.sweep(tmp_path, set(), 0) == 1
    assert files(tmp_path) == ["mine.txt"]


def test_purge_removes_what_no_run_names(store):
    """A file shared with another run stays, and so does one that was kept a moment ago."""
    own, shared, new = (artefacts.put(store.folder, content) for content in (b"own", b"shared", b"new"))
    first = store.save(sample(0, artefacts={"a": own, "b": shared}))
    store.save(sample(1, artefacts={"b": shared}))
    age(store.folder)
    artefacts.put(store.folder, b"new")
    store.delete([first])
    assert len(files(store.folder)) == 3
    assert store.purge() == 1
    assert files(store.folder) == sorted([shared["sha256"], new["sha256"]])
    assert store.purge(grace=0) == 0
    assert files(store.folder) == [shared["sha256"]]
    assert store.get(2).artefacts == {"b": shared}
