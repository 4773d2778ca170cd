"""Which process owns a piece of work, and whether it is still alive: so that what a killed one left behind is taken up."""

import os
import socket
import time

import psutil

# A process on another machine counts as gone when it has not been heard of for so long; it says so every third of this.
SILENT_SECONDS = 90.0


def this_owner() -> str:
    """This process: host, number and start time, which no later process shares."""
    process = psutil.Process()
    return f"{socket.gethostname()}|{process.pid}|{process.create_time():.2f}"


def is_alive(owner: str, heartbeat: float) -> bool:
    """Whether ``owner`` still runs; on another host, whether its last ``heartbeat`` (seconds since 1970) is recent."""
    host, pid, created = owner.rsplit("|", 2)
    if host != socket.gethostname():
        return time.time() - heartbeat < SILENT_SECONDS
    try:
        process = psutil.Process(int(pid))
        return (process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - float(created)) < 0.05) or int(
            pid
        ) == os.getpid()
    except psutil.NoSuchProcess:
        return False
