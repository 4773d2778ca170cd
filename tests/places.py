"""Places for stores: a file, and a PostgreSQL server of Debian's packages that lives as long as the tests."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import pytest

_databases = count()


@pytest.fixture(scope="session")
def postgres():
    """The URL of a throw-away server, reached by a socket in a folder of its own; skips where none is installed."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'psycopg[binary]')")
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    programs = sorted(found, key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0))
    if not programs:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    home = Path(tempfile.mkdtemp(prefix="wf-pg-", dir="/tmp"))
    own = {"cwd": home}
    if os.geteuid() == 0:  # the server refuses to run as root
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = names.get("postgres") or names["nobody"]
        os.chown(home, user.pw_uid, user.pw_gid)
        own |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, log = home / "data", (home / "log").open("w")
    make = [programs[-1], "-D", data, "-U", "woodfisher", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(make, check=True, stdout=log, stderr=log, **own)
    serve = [programs[-1].with_name("postgres"), "-D", data, "-k", home, "-c", "listen_addresses=", "-c", "fsync=off"]
    server = subprocess.Popen(serve, stdout=log, stderr=log, **own)
    url = f"postgresql://woodfisher@/postgres?host={home}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield url
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: after SIGTERM it would wait for its clients
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path, monkeypatch):
    """An empty place for a store, once a backend."""
    monkeypatch.setenv("WOODFISHER_ARTEFACTS", str(tmp_path / "artefacts"))
    if request.param == "sqlite":
        return str(tmp_path / "runs.sqlite")
    import psycopg

    url, name = request.getfixturevalue("postgres"), f"runs_{next(_databases)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.replace("/postgres?", f"/{name}?")
