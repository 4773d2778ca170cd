"""The machine and the versions that numbers were made with."""

import os
import platform
from functools import cache
from importlib.metadata import version

import numpy
import torch

from woodfisher_core.devices import resolve_device


def machine(device: str | torch.device) -> dict[str, object]:
    """Where numbers were taken: plain JSON values."""
    where = resolve_device(device)
    return {
        "woodfisher": _own_version(),
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


@cache
def _own_version() -> str:
    return version("woodfisher-explorer")


@cache
def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
