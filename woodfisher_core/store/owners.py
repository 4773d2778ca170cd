"""Which process owns a piece of work, and whether it is still alive: so that what a killed one left behind is taken up."""

import os
import socket
import time
from pathlib import Path

import psutil

# A process on another machine counts as gone when it has not been heard of for so long; it says so every third of this.
SILENT_SECONDS = 90.0


def this_owner() -> str:
    """This process: host, number and start, which no later process shares."""
    return f"{socket.gethostname()}|{os.getpid()}|{_started(os.getpid())}"


def is_alive(owner: str, heartbeat: float) -> bool:
    """Whether ``owner`` still runs; on another host, whether its last ``heartbeat`` (seconds since 1970) is recent."""
    host, pid, started = owner.rsplit("|", 2)
    if host != socket.gethostname():
        return time.time() - heartbeat < SILENT_SECONDS
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE and _started(int(pid)) == started
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    except (psutil.AccessDenied, PermissionError):
        return time.time() - heartbeat < SILENT_SECONDS


def _started(pid: int) -> str:
    """When process ``pid`` began: on Linux, the boot and the clock ticks since, which setting the clock does not change."""
    own = Path(f"/proc/{pid}/stat")
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        ticks = own.read_text().rpartition(")")[2].split()[19]
        return f"{boot.read_text().strip()[:8]}-{ticks}"
    except (FileNotFoundError, IndexError):
        return f"{psutil.Process(pid).create_time():.2f}"
