"""A queue in a store of its own, once a backend; :data:`job_kinds.IN_A_FILE` leaves it at a file."""

import pytest
from job_kinds import register

from woodfisher_core.jobs import StoreQueue
from woodfisher_core.jobs.kinds import KINDS
from woodfisher_core.store import Store


@pytest.fixture
def queue(place):
    store = Store(place)
    yield StoreQueue(store)
    store.close()


@pytest.fixture
def own_kinds():
    """The registry with the kinds of the tests, until the test is over."""
    before = dict(KINDS)
    register()
    yield
    KINDS.clear()
    KINDS.update(before)
