"""A real server and a real headless Chromium; tests here skip, with the reason, where there is no Chromium."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 90


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """Debian's Chromium, told to stay off the network."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    return {**browser_type_launch_args, "executable_path": chromium, "args": arguments}


@contextmanager
def serve(environment: dict[str, str], log: Path) -> Iterator[str]:
    """The app on a free port of this machine; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.headless", "true"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--server.port", str(port)], cwd=REPOSITORY, env=environment, stdout=output, stderr=output
        )
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_healthy(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the app did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def app_url(tmp_path_factory) -> Iterator[str]:
    """The app as this machine's user would start it."""
    folder = tmp_path_factory.mktemp("server")
    # What waits for a click must not depend on how busy the machine is.
    own = {"WOODFISHER_STORE": str(folder / "runs.sqlite"), "WOODFISHER_ASK_SECONDS": "3600"}
    with serve(os.environ | own, folder / "log.txt") as address:
        yield address


@pytest.fixture(scope="session")
def app_without_data(tmp_path_factory) -> Iterator[str]:
    """The app on a machine without MNIST and without a network (a proxy that refuses stands in for that)."""
    folder = tmp_path_factory.mktemp("bare")
    environment = {name: value for name, value in os.environ.items() if name != "WOODFISHER_DATA"}
    refusing = "http://127.0.0.1:9"
    environment |= {
        "XDG_CACHE_HOME": str(folder),
        "WOODFISHER_STORE": str(folder / "runs.sqlite"),
        "http_proxy": refusing,
        "https_proxy": refusing,
        "no_proxy": "127.0.0.1",
    }
    with serve(environment, folder / "log.txt") as address:
        yield address
