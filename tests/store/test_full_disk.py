"""A disk that fills up for real: said, nothing lost, and it goes on once there is room."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from samples import is_whole, sample

from woodfisher_core.errors import StoreError
from woodfisher_core.store import Store

# In a small file system of its own where a user may make one; else under the system's limit on a file's size. Prints
# what happened, which the tests read.
FILLING = """
import json, os, sys
from pathlib import Path
from samples import is_whole, sample
from woodfisher_core.errors import StoreError
from woodfisher_core.store import Store, artefacts
folder, limited = Path(sys.argv[1]), sys.argv[2] == "limit"
if limited:
    import resource
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    room = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    room(1_200_000)
else:
    (folder / "ballast").write_bytes(bytes(500_000))
store, saved, said = Store(folder / "runs.sqlite"), [], None
while said is None and len(saved) < 5000:
    try:
        saved.append(store.save(sample(len(saved))))
    except StoreError as error:
        said = str(error)
try:
    artefacts.put(store.folder, bytes(3_000_000))
    kept = "kept"
except StoreError as error:
    kept = str(error)
left = [str(path) for path in folder.rglob("*.part")]
whole_when_full = all(is_whole(store, number, seed) for seed, number in enumerate(saved))
store.close()
try:
    again = Store(folder / "runs.sqlite")
    reopened = len(again.runs()) if again.runs() is not None else None
    again.close()
except StoreError as error:
    reopened = str(error)
if limited:
    room(hard)
else:
    (folder / "ballast").unlink()
store = Store(folder / "runs.sqlite")
later = store.save(sample(9999))
whole = all(is_whole(store, number, seed) for seed, number in enumerate(saved)) and is_whole(store, later, 9999)
print(json.dumps({"saved": len(saved), "said": said, "kept": kept, "left": left, "whole_when_full": whole_when_full,
                  "reopened": reopened, "whole": whole, "runs": len(store.runs())}))
store.close()
"""
# An existing store on a file system that is then made read-only, which binds root too.
READ_ONLY = """
import json, os, subprocess, sys
from pathlib import Path
from samples import sample
from woodfisher_core.errors import StoreError
from woodfisher_core.store import Store
folder = Path(sys.argv[1])
store = Store(folder / "runs.sqlite")
store.save(sample(0))
store.close()
before = {path.name: path.read_bytes() for path in folder.iterdir()}
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
said = []
for name in ("runs.sqlite", "new.sqlite", "a/new.sqlite"):
    try:
        Store(folder / name)
        said.append("opened")
    except StoreError as error:
        said.append(str(error))
print(json.dumps({"said": said, "same": before == {path.name: path.read_bytes() for path in folder.iterdir()}}))
"""
MOUNTING = 'mount -t tmpfs -o size=2500k tmpfs "$1" && shift && exec "$@"'


def can_mount(folder: Path) -> bool:
    """Whether a file system of one's own can be made here."""
    if shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-rm", "sh", "-c", MOUNTING, "sh", str(folder), "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def run(code: str, folder: Path, how: str, mounted: bool) -> dict:
    """What ``code`` printed, run with ``folder`` as a small file system where ``mounted``."""
    import json

    before = ["unshare", "-rm", "sh", "-c", MOUNTING, "sh", str(folder)] if mounted else []
    command = [*before, sys.executable, "-c", code, str(folder), how]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("how", ["mount", "limit"])
def test_the_disk_fills_up(how, tmp_path):
    """Saving fails in words; what was saved can be read meanwhile and afterwards; with room again it goes on."""
    mounted = how == "mount" and can_mount(tmp_path)
    found = run(FILLING, tmp_path, "mount" if mounted else "limit", mounted)
    assert 10 < found["saved"] < 5000
    for said in (found["said"], found["kept"]):
        assert "Make room" in said
    assert "Nothing that was there is lost" in found["said"]
    assert found["left"] == []
    assert found["whole_when_full"]
    # Reopened on the full disk it either works or says why.
    assert found["reopened"] == found["saved"] or "Make room" in str(found["reopened"])
    assert found["whole"]
    assert found["runs"] == found["saved"] + 1


def test_a_read_only_place(tmp_path):
    """Where a file system of one's own cannot be made, the system's own read-only one has to do."""
    if can_mount(tmp_path):
        found = run(READ_ONLY, tmp_path, "mount", True)
        assert found["same"]
        assert all(said.startswith("store: ") and "choose another --store" in said.lower() for said in found["said"])
    else:
        with pytest.raises(StoreError, match="cannot be written"):
            Store("/proc/runs.sqlite")


def test_a_file_that_may_not_grow(file_store):
    """SQLite's own bound: the run that did not fit is not there in part, those before it are whole."""
    pages = 120

    def bound(connection, _record, _proxy) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(file_store._engine, "checkout", bound)
    saved = []

    def fill() -> None:
        for seed in range(5000):
            saved.append((file_store.save(sample(seed)), seed))

    with pytest.raises(StoreError, match="the disk may be full"):
        fill()
    assert len(saved) > 20
    assert len(file_store.runs()) == len(saved)
    assert all(is_whole(file_store, number, seed) for number, seed in saved)
    pages = 100_000
    number = file_store.save(sample(len(saved)))
    assert is_whole(file_store, number, len(saved))
