"""Claims: while one process computes a run, others wait for it or do something else."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from woodfisher_core.errors import StoreError
from woodfisher_core.store.owners import SILENT_SECONDS, is_alive, this_owner
from woodfisher_core.store.schema import claims, jobs
from woodfisher_core.store.store import Store


def claim(store: Store, key: str, owner: str | None = None) -> bool:
    """Takes ``key`` for ``owner`` (this process); False where a living process has it. A dead one's claim passes on."""
    owner = owner or this_owner()
    with store.writing() as connection:
        held = connection.execute(sa.select(claims).where(claims.c.key == key).with_for_update()).first()
        if held is None:
            made = claims.insert().values(key=key, owner=owner, heartbeat=time.time())
            try:
                with connection.begin_nested():
                    connection.execute(made)
            except sa.exc.IntegrityError:  # PostgreSQL: another one was as quick
                return False
            return True
        if held.owner != owner and is_alive(held.owner, held.heartbeat):
            return False
        connection.execute(claims.update().where(claims.c.key == key).values(owner=owner, heartbeat=time.time()))
        return True


def release(store: Store, key: str) -> None:
    """Gives ``key`` back, where this process has it."""
    with store.writing() as connection:
        connection.execute(claims.delete().where(claims.c.key == key, claims.c.owner == this_owner()))


@contextmanager
def heartbeat(store: Store) -> Iterator[None]:
    """Says now and then that this process still works on its claims and jobs, for those who cannot see it."""
    stop, owner = threading.Event(), this_owner()

    def beat() -> None:
        while not stop.wait(SILENT_SECONDS / 3):
            try:
                with store.writing() as connection:
                    for table in (claims, jobs):
                        connection.execute(table.update().where(table.c.owner == owner).values(heartbeat=time.time()))
            except StoreError:
                continue  # the work itself will say what is wrong; the next beat may get through

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
