"""How much memory there is to be had right now."""

from __future__ import annotations

import os
from pathlib import Path

import torch

__all__ = ["free_bytes", "spelled"]

_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
"""Where Linux says what a container may take, what it has taken, and what of that are copies of files that can go."""


def free_bytes(device: torch.device | None = None) -> int | None:
    """The bytes that can still be taken, of a device or of the machine within its container; None where nobody says.

    Args:
        device: where the tensors are; None for the processor's own memory.
    """
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [_of_machine(), *(_left(*paths) for paths in _LIMITS)]
    return min((n for n in known if n is not None), default=None)


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _left(limit: str, used: str, details: str) -> int | None:
    try:
        stat = dict(line.split() for line in Path(details).read_text(encoding="ascii").splitlines())
        taken = int(Path(used).read_text(encoding="ascii")) - int(stat.get("inactive_file", 0))
        return int(Path(limit).read_text(encoding="ascii")) - taken
    except (OSError, ValueError):
        return None


def spelled(count: float) -> str:
    """A number of bytes in words.

    >>> spelled(1500), spelled(2.5e9)
    ('1.5 KB', '2.5 GB')
    """
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if abs(count) >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
