"""Shared fixtures, and the rule that nothing required may skip where WOODFISHER_REQUIRE is set (as it is in CI)."""

import os
from pathlib import Path

import pytest
import torch
from places import place, postgres  # noqa: F401 - fixtures

from woodfisher_core.data import find_root, get_dataset
from woodfisher_core.errors import InputError

# Set by CI: there a skip is a failure, except for tests that need hardware CI does not have.
REQUIRED = bool(os.environ.get("WOODFISHER_REQUIRE"))


# The networks here are so small that a second thread only waits for the first (138 s with two threads, 34 s with one). So
# they are in the programs that tests start: servers, commands, notebooks.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("gpu") is None:
        report.outcome = "failed"
        report.longrepr = f"required test skipped: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _cuda_only_for_gpu_tests(request):
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST; tests that need it skip where it is not (and fail in CI)."""
    try:
        return find_root(get_dataset("mnist"))
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the official checkpoints and parity cases, named by WOODFISHER_DATA."""
    folder = Path(os.environ.get("WOODFISHER_DATA", ""))
    if not (folder / "parity").is_dir():
        pytest.skip("WOODFISHER_DATA names no folder with the parity cases and the official checkpoints")
    return folder
