"""A byte-bounded cache shared by all users of a process: equal work is done once, the least recently used leaves first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

from woodfisher_core.experiments.turns import Turns

Value = TypeVar("Value")


class ByteCache:
    """``get(key, make, size)`` returns the kept value or makes it, one computation at a time in the whole process.

    Values are shared between threads and must not be changed. A value larger than the bound is returned but not kept.
    Finding a kept value never waits for a computation.
    """

    def __init__(self, max_bytes: int, computing: Turns | None = None):
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._entries_lock = threading.Lock()
        # Making one value may ask for others, also of another cache with the same turns. One at a time: two at once would
        # only fight for two cores and double the peak memory.
        self.computing = computing or Turns()

    @property
    def nbytes(self) -> int:
        """Bytes kept now."""
        with self._entries_lock:
            return sum(size for _, size in self._entries.values())

    def peek(self, key: Hashable) -> object | None:
        """The kept value, or None; never computes."""
        with self._entries_lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: object, nbytes: int) -> None:
        """Keeps ``value``, dropping the least recently used until all fits; one too large to keep drops nothing else."""
        with self._entries_lock:
            self._entries.pop(key, None)
            if nbytes > self.max_bytes:
                return
            self._entries[key] = (value, nbytes)
            total = sum(size for _, size in self._entries.values())
            while total > self.max_bytes:
                total -= self._entries.popitem(last=False)[1][1]

    def drop(self, chosen: Callable[[Hashable], bool]) -> None:
        """Lets go of every value whose key is ``chosen``."""
        with self._entries_lock:
            for key in [key for key in self._entries if chosen(key)]:
                del self._entries[key]

    def get(self, key: Hashable, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The value for ``key``, made by ``make()`` when absent; ``size(value)`` gives its bytes."""
        found = self.peek(key)
        if found is not None:
            return found
        with self.computing:
            found = self.peek(key)
            if found is not None:
                return found
            value = make()
            self.put(key, value, size(value))
            return value
