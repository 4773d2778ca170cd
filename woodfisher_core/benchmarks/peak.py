"""The most memory and disk a piece of work takes beyond what was taken when it began, measured while it runs."""

import ctypes
import gc
import os
import sys
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from stat import S_ISREG

import psutil
import torch

# Seconds between two looks: what lives shorter than this can be missed.
INTERVAL = 0.005
OPEN_FILES = Path("/dev/fd")
# Bytes of one of stat's blocks, whatever the file system's own are.
BLOCK = 512


class Peak(ABC):
    """``with`` this around the work; a thread calls :meth:`note` every 5 ms until it ends."""

    def __enter__(self):
        self.begin()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.note()

    @abstractmethod
    def begin(self) -> None:
        """Takes the level everything is counted from."""

    @abstractmethod
    def note(self) -> None:
        """Looks once and keeps the largest."""

    def _poll(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.note()


class PeakMemory(Peak):
    """``extra_bytes`` the process came to hold: resident bytes; on CUDA PyTorch's own count, which misses nothing."""

    def __init__(self, device: torch.device | None = None):
        self.extra_bytes = 0
        self._device = device if device is not None and device.type == "cuda" else None
        self._process = psutil.Process()

    def begin(self) -> None:
        gc.collect()
        if self._device is None:
            _return_freed_memory()
        else:
            torch.cuda.reset_peak_memory_stats(self._device)
        self._start = self._look()

    def note(self) -> None:
        self.extra_bytes = max(self.extra_bytes, self._look() - self._start)

    def _look(self) -> int:
        if self._device is not None:
            return torch.cuda.max_memory_allocated(self._device)
        return self._process.memory_info().rss


class PeakDisk(Peak):
    """``extra_bytes`` on disk of files without a name that this process has open, as temporary files are.

    None where the system does not list a process's open files under ``/dev/fd`` (Windows).
    """

    def __init__(self):
        self.extra_bytes: int | None = 0 if OPEN_FILES.is_dir() else None

    def begin(self) -> None:
        self._start = self._look()

    def note(self) -> None:
        if self.extra_bytes is not None:
            self.extra_bytes = max(self.extra_bytes, self._look() - self._start)

    def _look(self) -> int:
        total = 0
        for number in os.listdir(OPEN_FILES) if self.extra_bytes is not None else ():
            try:
                status = os.fstat(int(number))
            except OSError:  # closed since it was listed
                continue
            if S_ISREG(status.st_mode) and status.st_nlink == 0:
                total += BLOCK * status.st_blocks
        return total


def _return_freed_memory() -> None:
    """Hands what the C library keeps of freed memory back to the system, else a run would take it without a trace."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)
