from __future__ import annotations

import shutil
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from meow_lightning.resources import hardware
from meow_lightning.resources.cost import disk_needed
from meow_lightning.resources.format import format_bytes, format_duration
from meow_lightning.resources.hardware import Gpu, bf16_instructions, free_disk, free_memory, gpus, limited_memory
from meow_lightning.resources.training_memory import tiny_dims

SHAPE = tiny_dims({"hidden_size": 128, "layers": 2, "heads": 4, "intermediate_size": 384}, 2048)  # 688,768 weights


def lay(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))


def left(folder, *, membership, groups):
    lay(folder, {"membership": membership})
    lay(folder / "cgroup", groups)
    return limited_memory(1_024_000, membership=folder / "membership", groups=folder / "cgroup")


def test_without_limits_the_machine_counts(tmp_path):
    assert left(tmp_path, membership="0::/\n", groups={}) == 1_024_000
    groups = {"job/memory.max": "max\n", "job/memory.current": "5\n"}
    assert left(tmp_path, membership="0::/job\n", groups=groups) == 1_024_000


def test_the_tightest_group_above_counts_and_its_cache_is_free(tmp_path):
    groups = {
        "jobs/memory.max": "900000\n", "jobs/memory.current": "500000\n",
        "jobs/memory.stat": "anon 300000\nactive_file 150000\ninactive_file 50000\n",
        "jobs/mine/memory.max": "800000\n", "jobs/mine/memory.current": "100000\n",
    }  # fmt: skip
    assert left(tmp_path, membership="0::/jobs/mine\n", groups=groups) == 600_000


def test_first_version_groups_are_read_too(tmp_path):
    groups = {
        "memory/box/memory.limit_in_bytes": "700000", "memory/box/memory.usage_in_bytes": "300000",
        "memory/box/memory.stat": "inactive_file 7\ntotal_inactive_file 100000\ntotal_active_file 0\n",
        "memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "300000",
    }  # fmt: skip
    assert left(tmp_path, membership="5:cpu:/x\n4:memory:/box\n0::/\n", groups=groups) == 500_000


def test_inside_a_container_the_top_is_our_own_group(tmp_path):
    groups = {"memory.max": "600000", "memory.current": "200000"}
    assert left(tmp_path, membership="0::/kubepods/pod7\n", groups=groups) == 400_000


def test_a_group_over_its_limit_leaves_nothing(tmp_path):
    assert left(tmp_path, membership="0::/\n", groups={"memory.max": "10", "memory.current": "30"}) == 0


def test_without_control_groups_the_machine_counts(tmp_path):
    assert limited_memory(1_024_000, membership=tmp_path / "none", groups=tmp_path) == 1_024_000


def test_the_machines_memory_is_what_it_reports_as_available(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    monkeypatch.setattr(hardware, "limited_memory", lambda available, **_: available)
    assert free_memory() == 1_000_000


def test_this_machine_has_memory():
    assert 2**20 < free_memory() < 2**50


class Driver:
    """NVML with devices of our own: ``(UUID, name, total, free, slices)``; slices are such tuples, without slices."""

    def __init__(self, *devices):
        self.devices, self.open = devices, 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.devices[index]

    def nvmlDeviceGetMaxMigDeviceCount(self, device):
        if device[4] is None:
            raise pynvml.NVMLError_NotSupported
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device, index):
        if index >= len(device[4]):
            raise pynvml.NVMLError_NotFound
        return device[4][index]

    def nvmlDeviceGetUUID(self, device):
        return device[0]

    def nvmlDeviceGetName(self, device):
        return device[1]

    def nvmlDeviceGetMemoryInfo(self, device):
        if device[2] is None:
            raise pynvml.NVMLError_NotSupported
        return SimpleNamespace(total=device[2], free=device[3])


@pytest.fixture
def driver(monkeypatch):
    """Put NVML functions of these devices in the place of the driver's, and no CUDA_VISIBLE_DEVICES."""

    def put(*devices):
        made = Driver(*devices)
        for name in dir(made):
            if name.startswith("nvml"):
                monkeypatch.setattr(pynvml, name, getattr(made, name))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return made

    return put


A100 = Gpu("NVIDIA A100-SXM4-80GB", 85_899_345_920, 84_934_656_000)
T4 = Gpu("NVIDIA T4", 16_106_127_360, 104_857_600)
TWO = (
    ("GPU-aa11", A100.name, A100.total, A100.free, ()),  # can be sliced, but is not in MIG mode
    ("GPU-bb22", T4.name, T4.total, T4.free, None),
)


def test_gpus_as_the_driver_lists_them(driver):
    nvml = driver(*TWO)
    assert gpus() == [A100, T4]
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("1", [T4]),
        ("1, 0", [T4, A100]),
        ("", []),
        ("-1", []),
        ("0,5,1", [A100]),
        ("GPU-bb", [T4]),
        ("GPU-bb22,0", [T4, A100]),
        ("GPU-", []),
        ("MIG-1", []),
    ],
)
def test_only_visible_gpus_count(driver, monkeypatch, visible, seen):
    driver(*TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == seen


SLICES = [
    Gpu(f"{A100.name} MIG {size}", total, total - 1000) for size, total in (("3g.40gb", 40_000), ("1g.10gb", 9000))
]
SLICED = (
    ("GPU-aa11", A100.name, A100.total, A100.free, tuple(
        (f"MIG-cc{number}", each.name, each.total, each.free) for number, each in enumerate(SLICES)
    )),
    TWO[1],
)  # fmt: skip


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [SLICES[0], T4]),
        ("0", [SLICES[0]]),
        ("GPU-aa11", [SLICES[0]]),
        ("MIG-cc1", [SLICES[1]]),
        ("MIG-cc1,MIG-cc0,1", [SLICES[1], SLICES[0], T4]),
        ("MIG-cc", []),
    ],
)
def test_slices_of_a_gpu_are_devices_of_their_own(driver, monkeypatch, visible, seen):
    driver(*SLICED)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == seen


def test_a_driver_that_does_not_report_memory_means_no_gpu(driver):
    nvml = driver(("GPU-dd33", "NVIDIA GB10", None, None, None))
    assert gpus() == []
    assert nvml.open == 0


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def missing():
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert gpus() == []


def test_a_folder_that_does_not_exist_yet_lies_on_its_parents_disk(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or shutil._ntuple_diskusage(9, 5, 4))
    assert free_disk(tmp_path / "a" / "b") == 4
    assert asked == [tmp_path]


def test_two_checkpoints_and_the_model_lie_on_the_disk():
    # twice (weights + two moments) of 4 bytes, and the model of 2
    assert disk_needed(SHAPE, weight_bytes=4, saved_bytes=2, trained=688_768) == 688_768 * (2 * 12 + 2)
    # twice (all weights of 2 bytes, 1000 adapter weights and their moments of 4)
    assert disk_needed(SHAPE, weight_bytes=2, saved_bytes=2, trained=1000) == 688_768 * 6 + 2 * 12_000


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (23_400_000_000, "23.4 GB"),
        (85_899_345_920, "85.9 GB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_bytes_in_words(size, words):
    assert format_bytes(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (40, "40 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5401, "about 2 h"),
        (10_800, "about 3 h"),
        (129_601, "about 2 days"),
        (345_600, "about 4 days"),
    ],
)
def test_time_in_words(seconds, words):
    assert format_duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model name\t: x\nflags\t\t: fpu avx512_bf16 amx_bf16 avx512f\nflags\t\t: fpu\n", ["amx_bf16", "avx512_bf16"]),
        ("flags\t\t: fpu avx512f avx2\n", []),
        ("Features\t: fp asimd bf16 i8mm\n", ["bf16"]),
        ("Processor: unknown\n", None),
    ],
)
def test_instructions_for_bfloat16_are_those_that_the_kernel_lists(tmp_path, text, found):
    (tmp_path / "cpuinfo").write_text(text)
    assert bf16_instructions(tmp_path / "cpuinfo") == found


def test_without_a_description_the_instructions_are_unknown(tmp_path):
    assert bf16_instructions(tmp_path / "cpuinfo") is None
