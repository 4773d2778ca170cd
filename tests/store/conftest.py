"""Empty stores."""

import pytest

from woodfisher_core.store import Store


@pytest.fixture
def store(place):
    """An empty store, once a backend."""
    opened = Store(place)
    yield opened
    opened.close()


@pytest.fixture
def file_store(tmp_path):
    """An empty store in a file."""
    opened = Store(tmp_path / "runs.sqlite")
    yield opened
    opened.close()
