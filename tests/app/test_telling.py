"""Progress is told no more often than it can be read."""

import pytest

from app import telling


class Place:
    """Where a page shows its progress."""

    def __init__(self):
        self.shown = []

    def progress(self, share: float, text: str) -> None:
        self.shown.append((share, text))


def test_most_tellings_are_left_out(monkeypatch):
    """128 times a second something is done, eight times it is said, with the newest numbers."""
    clock = iter(range(10_000))
    monkeypatch.setattr(telling.time, "monotonic", lambda: next(clock) / 128)
    monkeypatch.setattr(telling, "TELL_SECONDS", 0.125)
    place = Place()
    progress = telling.telling(place, lambda phase, done, total: f"{phase}: {done} of {total}")
    for done in range(1, 51):
        progress("points", done, 50)
    assert [share for share, _ in place.shown] == pytest.approx([0.32, 0.64, 0.96])
    assert place.shown[0][1] == "points: 16 of 50"
