"""The byte-bounded cache: its bound, its order, and one computation at a time."""

import threading

import pytest

from woodfisher_core.experiments.cache import ByteCache


def test_bound_is_never_passed():
    """The least recently used leaves first; looking renews."""
    cache = ByteCache(10)
    for key in "abc":
        cache.put(key, key, 3)
    assert cache.peek("a") == "a"
    cache.put("d", "d", 4)
    assert [cache.peek(key) for key in "abcd"] == ["a", None, "c", "d"]
    assert cache.nbytes == 10


def test_same_key_replaces():
    """A value put again counts once."""
    cache = ByteCache(10)
    cache.put("a", 1, 6)
    cache.put("a", 2, 7)
    assert (cache.peek("a"), cache.nbytes) == (2, 7)


def test_too_large_is_returned_but_not_kept():
    """A value above the bound throws nothing else out, and takes the place of no older value of its key."""
    cache = ByteCache(10)
    cache.put("a", 1, 6)
    cache.put("b", 1, 3)
    assert cache.get("c", lambda: "big", lambda _: 11) == "big"
    assert [cache.peek(key) for key in "abc"] == [1, 1, None]
    cache.put("b", 2, 50)
    assert (cache.peek("b"), cache.nbytes) == (None, 6)


def test_threads_share_one_computation():
    """Eight threads that ask at once get one value, made once."""
    cache, made, start = ByteCache(100), [], threading.Barrier(8)
    found = []

    def make():
        made.append(threading.get_ident())
        return object()

    def ask():
        start.wait()
        found.append(cache.get("key", make, lambda _: 1))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(found) == 8
    assert len({id(value) for value in found}) == 1


def test_a_failure_is_not_kept():
    """An exception reaches the caller, frees the lock, and the next call tries again."""
    cache = ByteCache(10)

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("a", fail, lambda _: 1)
    assert cache.get("a", lambda: 5, lambda _: 1) == 5


def test_kept_values_do_not_wait():
    """While one value is being made, another that is kept can be had."""
    cache = ByteCache(10)
    cache.put("kept", 1, 1)
    entered, leave = threading.Event(), threading.Event()

    def slow():
        entered.set()
        leave.wait()
        return 2

    thread = threading.Thread(target=lambda: cache.get("slow", slow, lambda _: 1))
    thread.start()
    entered.wait()
    found = cache.get("kept", lambda: None, lambda _: 1)
    leave.set()
    thread.join()
    assert (found, cache.peek("slow")) == (1, 2)


def test_values_may_need_each_other():
    """Making one value may ask for another."""
    cache = ByteCache(10)
    found = cache.get("outer", lambda: 1 + cache.get("inner", lambda: 2, lambda _: 1), lambda _: 1)
    assert (found, cache.peek("inner")) == (3, 2)
