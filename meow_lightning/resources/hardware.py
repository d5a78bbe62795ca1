"""Available memory, GPUs and disk space of this machine; without torch."""

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
    """A GPU visible to processes started here.

    Attributes:
        name: Name reported by the driver.
        total: Its memory in bytes.
        free: Unused memory in bytes.
    """

    name: str
    total: int
    free: int


def free_memory() -> int:
    """Return the memory available to this process in bytes: the machine's, or less under a control group's limit.

    A control group's page cache counts as free, since the kernel reclaims it. Without /proc (macOS) the machine's total
    memory counts; if unknown (Windows) there is no limit: ``sys.maxsize``.
    """
    return memory_left(proc=Path("/proc"), groups=Path("/sys/fs/cgroup"))


def memory_left(*, proc: Path, groups: Path) -> int:
    """Compute :func:`free_memory` from the folders ``proc`` and ``groups``."""
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
    """Parse lines "name number ..." into a mapping."""
    rows = [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _left_in_groups(membership: Path, groups: Path) -> Iterator[int]:
    """Yield the memory left by each control group above this process, in bytes; nothing for groups without a limit."""
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
        # In a container the named path may be outside the mounted tree: the top is then our own group.
        for each in [folder, *(above for above in folder.parents if above.is_relative_to(top))]:
            yield from _left_in_group(each, names, prefix)


def _left_in_group(folder: Path, names: tuple[str, str], prefix: str) -> Iterator[int]:
    try:
        limit, usage = ((folder / name).read_text(encoding="ascii").strip() for name in names)
    except OSError:  # no such group, or not readable
        return
    if not limit.isdigit():  # "max"
        return
    statistics = folder / "memory.stat"
    counts = _table(statistics) if statistics.exists() else {}
    cached = sum(counts.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
    yield int(limit) - max(0, int(usage) - cached)


def gpus() -> list[Gpu]:
    """List the GPUs that ``nvidia-smi`` reports and ``CUDA_VISIBLE_DEVICES`` allows; empty if there are none.

    Indices count as in ``nvidia-smi`` (CUDA_DEVICE_ORDER=PCI_BUS_ID). As in CUDA, the list ends at the first entry that
    is not a GPU; MIG slices are such entries, because their memory is not reported.
    """
    try:
        devices = [_gpu(line) for line in _nvidia_smi("name,memory.total,memory.free")]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return devices
        entries = [entry.strip() for entry in visible.split(",")]
        named = any(entry.startswith("GPU-") for entry in entries)
        uuids = _nvidia_smi("uuid") if named and devices else []
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    selected: list[Gpu] = []
    for entry in entries:
        starts = [number for number, uuid in enumerate(uuids) if entry and uuid.startswith(entry)]
        number = int(entry) if entry.isdecimal() else starts[0] if len(starts) == 1 else len(devices)
        if number >= len(devices):
            break
        selected.append(devices[number])
    return selected


def _nvidia_smi(columns: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _gpu(line: str) -> Gpu:
    """Parse a line "name, MiB, MiB"."""
    name, total, free = line.rsplit(",", 2)
    return Gpu(name.strip(), int(total) * 2**20, int(free) * 2**20)


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk of ``folder``, or of its nearest existing parent."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return shutil.disk_usage(nearest).free
