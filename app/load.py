"""Drives the running app as many people at once would, over the connection browsers use; reports time, memory and mix-ups.

``python -m app.load --sessions 30 --seconds 60`` starts a server of its own and prints a table. Each person opens a page, then
changes one control every few seconds; what the page then says about that setting must be what the setting gives.
"""

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

REPOSITORY = Path(__file__).parents[1]
START_SECONDS, ANSWER_SECONDS = 90, 120
SPARSITIES = tuple(round(0.3 + 0.05 * step, 2) for step in range(13))
DAMPINGS = ("1e-5", "1e-4", "1e-3", "1e-2", "1e-1")
MEGABYTE = 1 << 20
# Those whose sidebar has the controls that are moved; Explore always is.
PAGES = ("trust", "compensate", "speed", "learn")
# Dampings of those who are there before anybody is measured, so that what is measured was not computed for them.
BEFORE = ("3e-5", "3e-4", "3e-3")
# Changes a person makes however long they take.
AT_LEAST = 2


@dataclass
class Session:
    """One person's page: its connection, and the controls on it by their key in the link."""

    connection: ClientConnection
    controls: dict[str, str] = field(default_factory=dict)
    options: dict[str, list[str]] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    page: str = ""  # its hash, by which Streamlit knows it

    def run(self, query: str = "", page: str = "", states: list[WidgetState] | None = None) -> float:
        """Lets the page run; the seconds until it had said all."""
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_name = page
        if not page:  # the one it is on; without a name the server would open the first
            message.rerun_script.page_script_hash = self.page
        for state in states or []:
            message.rerun_script.widget_states.widgets.append(state)
        started = time.perf_counter()
        self.connection.send(message.SerializeToString())
        while True:
            answer = ForwardMsg()
            answer.ParseFromString(self.connection.recv(timeout=ANSWER_SECONDS))
            kind = answer.WhichOneof("type")
            if kind == "delta":
                self._read(answer.delta.new_element)
            elif kind == "navigation":
                self.page = answer.navigation.page_script_hash
            elif kind == "script_finished":
                if answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    return time.perf_counter() - started
            elif kind == "session_event" and answer.session_event.WhichOneof("type") == "script_compilation_exception":
                self.problems.append("the script does not compile")
                return time.perf_counter() - started

    def _read(self, element) -> None:
        kind = element.WhichOneof("type")
        if kind == "exception":
            self.problems.append(element.exception.message)
        elif kind == "metric":
            self.metrics[element.metric.label] = element.metric.body
        elif kind in ("slider", "selectbox"):
            widget = getattr(element, kind)
            self.controls[widget.query_param_key] = widget.id
            self.options[widget.query_param_key] = list(widget.options)

    def slide(self, key: str, value: float | str) -> float:
        """Moves a slider to ``value``, a number or one of its options."""
        state = WidgetState(id=self.controls[key])
        if self.options[key]:
            state.string_array_value.data.append(value)
        else:
            state.double_array_value.data.append(value)
        return self.run(states=[state])


@contextmanager
def server() -> Iterator[tuple[int, psutil.Process]]:
    """The app on a free port with a run store of its own; yields the port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.headless", "true"]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"WOODFISHER_STORE": str(Path(folder) / "runs.sqlite")}
        process = subprocess.Popen(
            [*command, "--server.port", str(port)],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_healthy(port, process)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_healthy(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the app did not start; run it by hand to see why")


@contextmanager
def session(port: int) -> Iterator[Session]:
    """A new person's connection."""
    with connect(f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as connection:
        yield Session(connection)


@dataclass(frozen=True)
class Change:
    """One change of a control: the setting after it, the seconds it took, and the accuracy the page said."""

    sparsity: float
    damping: str
    seconds: float
    accuracy: str


def person(
    port: int,
    number: int,
    query: dict[str, str],
    every: float,
    until: float,
    name: str = "",
    dampings: Sequence[str] = DAMPINGS,
) -> tuple[list[Change], list[str]]:
    """Opens the page ``name`` (Explore by default), and changes sparsity or damping at random ``every`` so many seconds."""
    draw, done = random.Random(number), []
    sparsity, damping = draw.choice(SPARSITIES), draw.choice(dampings)
    with session(port) as page:
        seconds = page.run(urlencode({**query, "sparsity": sparsity, "damping": damping}), name)
        done.append(Change(sparsity, damping, seconds, page.metrics.get("Accuracy", "")))
        time.sleep(draw.uniform(0, every))
        while (time.monotonic() < until or len(done) <= AT_LEAST) and not page.problems:
            began = time.monotonic()
            if draw.random() < 0.7:
                sparsity = draw.choice([value for value in SPARSITIES if value != sparsity])
                seconds = page.slide("sparsity", sparsity)
            else:
                damping = draw.choice([value for value in dampings if value != damping])
                seconds = page.slide("damping", damping)
            done.append(Change(sparsity, damping, seconds, page.metrics.get("Accuracy", "")))
            time.sleep(max(0.0, every - (time.monotonic() - began)))
    return done, page.problems


def crowd(
    port: int,
    process: psutil.Process,
    sessions: int,
    seconds: float,
    query: dict[str, str],
    every: float,
    name: str = "",
    dampings: Sequence[str] = DAMPINGS,
    first: int = 0,
) -> dict:
    """Changes of people ``first``, ``first`` + 1, …, what went wrong, and the server's memory (bytes) second by second."""
    until, memory, found = time.monotonic() + seconds, [], []
    lock = threading.Lock()

    def one(number: int) -> None:
        try:
            result = person(port, number, query, every, until, name, dampings)
        except Exception as error:  # whatever happened to one person is counted, not raised
            result = ([], [f"{type(error).__name__}: {error}"])
        with lock:
            found.append(result)

    threads = [threading.Thread(target=one, args=(first + number,)) for number in range(sessions)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(process.memory_info().rss)
        time.sleep(1.0)
    return {
        "opened": [changes[0] for changes, _ in found if changes],
        "changes": [change for changes, _ in found for change in changes[1:]],
        "problems": [problem for _, problems in found for problem in problems],
        "memory": memory,
    }


def mixed_up(changes: list[Change]) -> list[str]:
    """Settings for which pages said different things."""
    said: dict[tuple[float, str], set[str]] = {}
    for change in changes:
        said.setdefault((change.sparsity, change.damping), set()).add(change.accuracy)
    return [f"{setting}: {sorted(words)}" for setting, words in said.items() if len(words) > 1 or not all(words)]


def summary(seconds: list[float]) -> str:
    """Median, 95th percentile and worst of some times."""
    if len(seconds) < 2:
        return "too few to tell"
    high = statistics.quantiles(seconds, n=20)[-1]
    return f"median {statistics.median(seconds):.3f} s, 95th percentile {high:.3f} s, worst {max(seconds):.3f} s"


def main(arguments: list[str] | None = None) -> int:
    """Runs one person alone, then the crowd, and prints both; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=30, help="people at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they go on (%(default)s)")
    parser.add_argument("--alone", type=float, default=20.0, help="how long one person goes on before (%(default)s)")
    parser.add_argument("--pages", nargs="*", default=PAGES, help="also opened by one person (%(default)s)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between a person's changes (%(default)s)")
    parser.add_argument("--model", default="digits-mlp", help="the network they look at (%(default)s)")
    parser.add_argument("--samples", default="1000", help="Fisher samples (%(default)s)")
    given = parser.parse_args(arguments)
    query = {"model": given.model, "samples": given.samples}
    # What waits for a click would wait for ever.
    os.environ.setdefault("WOODFISHER_ASK_SECONDS", "3600")
    with server() as (port, process):
        found = {}
        for number, name in enumerate(("", *given.pages), start=given.sessions):
            # Somebody is there before, for what is computed once, whoever asks.
            crowd(port, process, 1, given.alone / 2, query, 0.2, name, BEFORE)
            found[name] = crowd(port, process, 1, given.alone, query, 0.2, name, first=number)
        alone, others = found.pop(""), found
        many = crowd(port, process, given.sessions, given.seconds, query, given.every)
    wrong = [*alone["problems"], *many["problems"], *mixed_up([*alone["changes"], *many["opened"], *many["changes"]])]
    print(f"one person, {len(alone['changes'])} changes: {summary([c.seconds for c in alone['changes']])}")
    for name, found in others.items():
        print(f"  {name}, {len(found['changes'])} changes: {summary([c.seconds for c in found['changes']])}")
        wrong += [f"{name}: {problem}" for problem in found["problems"]]
    print(f"{given.sessions} people opening at once: {summary([c.seconds for c in many['opened']])}")
    print(f"{given.sessions} people, {len(many['changes'])} changes: {summary([c.seconds for c in many['changes']])}")
    first, last, most = many["memory"][0], many["memory"][-1], max(many["memory"])
    print(f"memory: {first / MEGABYTE:.0f} MB before, {most / MEGABYTE:.0f} MB at most, {last / MEGABYTE:.0f} MB after")
    print("nothing went wrong, nobody was told another's numbers" if not wrong else "WRONG: " + "; ".join(wrong[:10]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
