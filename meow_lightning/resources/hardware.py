"""What this machine has left, what disk a training takes of it, and how sizes and times are said; without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that a process started here would see.

    Attributes:
        name: As the driver says it.
        total: Its memory in bytes.
        free: What of it nobody has taken, in bytes.
    """

    name: str
    total: int
    free: int


def free_memory() -> int:
    """Bytes that this process may still take: what the machine has available, or less where a control group limits it.

    The page cache of a control group counts as free, since the kernel gives it back. Where there is no /proc (macOS)
    all memory of the machine counts; where nothing can be asked (Windows) there is no bound: ``sys.maxsize``.
    """
    return memory_left(proc=Path("/proc"), groups=Path("/sys/fs/cgroup"))


def memory_left(*, proc: Path, groups: Path) -> int:
    """What :func:`free_memory` says, read from the folders ``proc`` and ``groups``."""
    meminfo = proc / "meminfo"
    if not meminfo.exists():
        return _pages()
    available = _table(meminfo).get("MemAvailable:")
    machine = _pages() if available is None else available * 1024
    return max(0, min([machine, *_left_in_groups(proc / "self" / "cgroup", groups)]))


def _pages() -> int:
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _table(path: Path) -> dict[str, int]:
    """Lines "name number ..." as a mapping."""
    rows = [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _left_in_groups(membership: Path, groups: Path) -> Iterator[int]:
    """What each control group above this process leaves it, in bytes; nothing for groups without a limit."""
    lines = membership.read_text(encoding="utf-8").splitlines() if membership.exists() else []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            top, names, prefix = groups, ("memory.max", "memory.current"), ""
        elif "memory" in controllers.split(","):
            top, names, prefix = groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_"
        else:
            continue
        folder = top / place.lstrip("/")
        # Inside a container the place that is named may lie outside of what is mounted: the top is then our own group.
        for each in [folder, *(above for above in folder.parents if above.is_relative_to(top))]:
            yield from _left_in_group(each, names, prefix)


def _left_in_group(folder: Path, names: tuple[str, str], prefix: str) -> Iterator[int]:
    try:
        limit, usage = ((folder / name).read_text(encoding="ascii").strip() for name in names)
    except OSError:  # no such group, or not ours to read
        return
    if not limit.isdigit():  # "max"
        return
    statistics = folder / "memory.stat"
    counts = _table(statistics) if statistics.exists() else {}
    cached = sum(counts.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
    yield int(limit) - max(0, int(usage) - cached)


def gpus() -> list[Gpu]:
    """The GPUs that ``nvidia-smi`` knows and ``CUDA_VISIBLE_DEVICES`` lets through; empty when there are none.

    Indices count as ``nvidia-smi`` does (CUDA_DEVICE_ORDER=PCI_BUS_ID). As in CUDA, the list ends at the first entry
    that names no GPU; slices of a GPU (MIG) are such entries, because their memory is not told.
    """
    try:
        found = [_gpu(line) for line in _nvidia_smi("name,memory.total,memory.free")]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return found
        wanted = [entry.strip() for entry in visible.split(",")]
        named = any(entry.startswith("GPU-") for entry in wanted)
        uuids = _nvidia_smi("uuid") if named and found else []
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    seen: list[Gpu] = []
    for entry in wanted:
        starts = [number for number, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
        number = int(entry) if entry.isdecimal() else starts[0] if len(starts) == 1 else len(found)
        if number >= len(found):
            break
        seen.append(found[number])
    return seen


def _nvidia_smi(columns: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _gpu(line: str) -> Gpu:
    """One line "name, MiB, MiB"."""
    name, total, free = line.rsplit(",", 2)
    return Gpu(name.strip(), int(total) * 2**20, int(free) * 2**20)


def free_disk(folder: Path) -> int:
    """Bytes free on the disk that ``folder`` lies on, or would lie on: its nearest parent that exists is asked."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free
