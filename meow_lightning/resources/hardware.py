"""Available memory, GPUs and disk space of this machine; without torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

BF16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")  # as Linux names them; the last is ARM's


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG slice of one, visible to processes started here.

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

    A control group's page cache counts as free, since the kernel reclaims it.
    """
    return limited_memory(
        psutil.virtual_memory().available, membership=Path("/proc/self/cgroup"), groups=Path("/sys/fs/cgroup")
    )


def limited_memory(available: int, *, membership: Path, groups: Path) -> int:
    """Limit the machine's available memory to what this process's control groups leave, in bytes, at least 0.

    Args:
        available: Available bytes of the machine.
        membership: File that lists the groups of this process; without it, there is no limit.
        groups: Folder of all groups.
    """
    return max(0, min([available, *_left_in_groups(membership, groups)]))


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


def bf16_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str] | None:
    """Return the instructions of this CPU for products in bfloat16, fastest first; ``None`` if it does not say.

    Args:
        cpuinfo: The kernel's description of the CPU.
    """
    lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines() if cpuinfo.exists() else []
    described = [line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return [name for name in BF16_INSTRUCTIONS if name in described[0]] if described else None


def gpus() -> list[Gpu]:
    """List the GPUs and MIG slices that ``CUDA_VISIBLE_DEVICES`` allows; empty without a GPU or driver.

    Indices count as in ``nvidia-smi`` (CUDA_DEVICE_ORDER=PCI_BUS_ID). As in CUDA, a GPU in MIG mode stands for its
    first slice, an entry may be the beginning of a UUID, and the list ends at the first entry that is not a device.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(handle) for handle in _visible_devices(os.environ.get("CUDA_VISIBLE_DEVICES"))]
    except pynvml.NVMLError:  # also if the driver does not report a GPU's memory
        return []
    finally:
        pynvml.nvmlShutdown()


def _visible_devices(visible: str | None) -> list[Any]:
    """Return the NVML handles of the devices that a value of ``CUDA_VISIBLE_DEVICES`` selects."""
    physical = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    slices = [_mig_slices(gpu) for gpu in physical]
    devices = [own[0] if own else gpu for gpu, own in zip(physical, slices, strict=True)]
    if visible is None:
        return devices
    by_uuid = {pynvml.nvmlDeviceGetUUID(gpu): device for gpu, device in zip(physical, devices, strict=True)}
    by_uuid |= {pynvml.nvmlDeviceGetUUID(part): part for own in slices for part in own}
    selected: list[Any] = []
    for entry in (word.strip() for word in visible.split(",")):
        if entry.isdecimal():
            matches = devices[int(entry) : int(entry) + 1]
        else:
            matches = [device for uuid, device in by_uuid.items() if entry and uuid.startswith(entry)]
        if len(matches) != 1:
            break
        selected += matches
    return selected


def _mig_slices(gpu: Any) -> list[Any]:
    """Return the handles of a GPU's MIG slices; empty if it is not in MIG mode."""
    slices: list[Any] = []
    with suppress(pynvml.NVMLError):  # a GPU or driver without MIG
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with suppress(pynvml.NVMLError_NotFound):  # fewer slices than the maximum
                slices.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
    return slices


def _gpu(handle: Any) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(pynvml.nvmlDeviceGetName(handle), memory.total, memory.free)


def free_disk(folder: Path) -> int:
    """Return the free bytes of the disk of ``folder``, or of its nearest existing parent."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return shutil.disk_usage(nearest).free
