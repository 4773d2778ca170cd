"""The queue before the one computation: its order, what those who wait are told, and how a wait is given up."""

import threading

import pytest

from woodfisher_core.experiments import turns as module
from woodfisher_core.experiments.turns import Turns


@pytest.fixture(autouse=True)
def _told_often(monkeypatch):
    monkeypatch.setattr(module, "TOLD_SECONDS", 0.01)


def wait_until_waiting(turns: Turns, count: int) -> None:
    while turns.waiting != count:
        threading.Event().wait(0.002)


def started(target) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_first_come_first_served():
    """However many wait, they go in the order in which they came, one at a time."""
    turns, order, inside = Turns(), [], []

    def one(number: int) -> None:
        with turns:
            inside.append(number)
            order.append((number, len(inside)))
            threading.Event().wait(0.005)
            inside.remove(number)

    threads = []
    with turns:
        for number in range(6):
            threads.append(started(lambda number=number: one(number)))
            wait_until_waiting(turns, number + 1)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == [(number, 1) for number in range(6)]
    assert turns.waiting == 0


def test_the_holder_may_take_it_again():
    """Nested blocks of one thread do not wait for themselves, and only the outermost gives the turn away."""
    turns, went = Turns(), []
    with turns:
        with turns:
            pass
        other = started(lambda: went.append(turns.__enter__()))
        wait_until_waiting(turns, 1)
        assert went == []
    other.join()
    assert went == [turns]


def test_those_who_wait_are_told_how_many_come_first():
    """The one who computes counts too; the numbers only fall; nobody else is told."""
    turns, told = Turns(), {0: [], 1: []}
    gates = [threading.Event(), threading.Event()]
    go_on = threading.Event()

    def one(number: int) -> None:
        turns.tell(lambda before: (told[number].append(before), gates[number].set()))
        with turns:
            if number == 0:
                gates[1].clear()
                go_on.set()
                gates[1].wait(5)

    threads = []
    with turns:
        for number in range(2):
            threads.append(started(lambda number=number: one(number)))
            assert gates[number].wait(5)
    assert go_on.wait(5)
    for thread in threads:
        thread.join()
    assert set(told[0]) == {1}
    assert set(told[1]) == {2, 1}
    assert told[1] == sorted(told[1], reverse=True)


def test_a_wait_can_be_given_up():
    """An exception from being told leaves the queue, and those behind go on."""
    turns, ended, went = Turns(), [], []

    def gives_up() -> None:
        def told(_: int) -> None:
            raise KeyError("changed my mind")

        turns.tell(told)
        try:
            with turns:
                went.append("first")
        except KeyError as error:
            ended.append(error)

    def patient() -> None:
        with turns:
            went.append("second")

    with turns:
        first = started(gives_up)
        first.join()
        second = started(patient)
        wait_until_waiting(turns, 1)
    second.join()
    assert [str(error) for error in ended] == ["'changed my mind'"]
    assert went == ["second"]
    assert turns.waiting == 0


def test_an_exception_inside_frees_the_turn():
    """What fails in its turn does not keep others from theirs."""
    turns = Turns()
    with pytest.raises(ValueError, match="no"), turns:
        raise ValueError("no")
    went = []
    thread = started(lambda: went.append(turns.__enter__()))
    thread.join()
    assert went == [turns]
