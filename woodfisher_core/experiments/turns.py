"""One computation at a time, in the order in which they were asked for; those who wait can be told how many are before them."""

import threading
from collections import deque
from collections.abc import Callable

# How often one who waits is told where he stands.
TOLD_SECONDS = 0.5

Told = Callable[[int], None]


class Turns:
    """A lock that its holder may take again, first come first served.

    ``with turns:`` waits for its turn. A thread that has said so with :meth:`tell` is told every half second how many
    computations come before its own; an exception out of that call leaves the queue, so that a wait can be given up.
    """

    def __init__(self):
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._holder: int | None = None
        self._depth = 0
        self._listener = threading.local()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        with self._changed:
            return len(self._queue)

    @property
    def mine(self) -> bool:
        """Whether it is this thread's turn."""
        with self._changed:
            return self._holder == threading.get_ident()

    def tell(self, told: Told | None) -> None:
        """This thread's waits are told to ``told`` from now on; None: to nobody."""
        self._listener.told = told

    def __enter__(self) -> "Turns":
        me = threading.get_ident()
        with self._changed:
            if self._holder == me:
                self._depth += 1
                return self
            ticket = object()
            self._queue.append(ticket)
        try:
            while (before := self._before(ticket, me)) > 0:
                if (told := getattr(self._listener, "told", None)) is not None:
                    told(before)
        except BaseException:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()
            raise
        return self

    def _before(self, ticket: object, me: int) -> int:
        """Waits at most ``TOLD_SECONDS``; how many still come first, 0 when the turn is this thread's."""

        def first() -> bool:
            return self._holder is None and self._queue[0] is ticket

        with self._changed:
            if not self._changed.wait_for(first, TOLD_SECONDS):
                return self._queue.index(ticket) + (self._holder is not None)
            self._queue.popleft()
            self._holder, self._depth = me, 1
            return 0

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._depth -= 1
            if self._depth == 0:
                self._holder = None
                self._changed.notify_all()
