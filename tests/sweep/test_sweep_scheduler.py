from __future__ import annotations

import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers.hydra import options, with_values

from meow_lightning.config.schema import RunConfig
from meow_lightning.config.validation import launcher_config
from meow_lightning.errors import UserError
from meow_lightning.sweep import queue as queue_module
from meow_lightning.sweep.jobs import Task
from meow_lightning.sweep.queue import Queue, parameters
from meow_lightning.sweep.scheduler import check_devices

CONF = Path(__file__).resolve().parents[2] / "conf" / "hydra" / "launcher"
SLURM, LOCAL = (yaml.safe_load((CONF / f"{name}.yaml").read_text()) for name in ("slurm", "local"))
for node in (SLURM, LOCAL):
    del node["_target_"]


def run_on(**trainer: object) -> RunConfig:
    """The options of a run on one GPU, or on other devices."""
    given = {"nodes": 1, "accelerator": "gpu", "devices": 1, "strategy": "ddp"} | trainer
    return with_values(options(), {f"trainer.{name}": value for name, value in given.items()})


def test_the_shipped_launchers_can_be() -> None:
    for node in (SLURM, LOCAL):
        launcher_config(node)
    assert set(SLURM) == set(LOCAL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cluster": "pbs"}, "hydra.launcher.cluster=pbs is invalid: expected one of slurm, local"),
        ({"array_parallelism": 0}, "hydra.launcher.array_parallelism=0 is invalid: expected a number from 1 to 1,000,000,000"),  # noqa: E501
        ({"timeout_min": 0.5}, "hydra.launcher.timeout_min=0.5 is invalid: expected an integer"),
        ({"cluster": "local", "nodes": 2},
         "hydra.launcher.nodes=2 is invalid: expected 1; for several nodes, set hydra/launcher=slurm"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(change, message) -> None:
    with pytest.raises(UserError) as told:
        launcher_config({**SLURM, **change})
    assert str(told.value) == message


def test_a_job_has_what_its_run_computes_on() -> None:
    check_devices(run_on(), launcher_config(SLURM))
    check_devices(run_on(accelerator="cpu", devices=4), launcher_config(SLURM))
    check_devices(run_on(nodes=2, devices=8), launcher_config({**SLURM, "nodes": 2, "gpus_per_node": 4}))
    check_devices(run_on(devices=2), launcher_config({**LOCAL, "gpus_per_node": 4}))
    with pytest.raises(UserError, match=r"^trainer.nodes=1 and hydra.launcher.nodes=2 must be equal"):
        check_devices(run_on(), launcher_config({**SLURM, "nodes": 2}))
    with pytest.raises(
        UserError, match=r"^hydra.launcher.nodes x gpus_per_node = 4 GPUs per job and trainer.devices=1 must be equal$"
    ):
        check_devices(run_on(), launcher_config({**SLURM, "gpus_per_node": 4}))
    with pytest.raises(
        UserError, match=r"^hydra.launcher.array_parallelism=2 jobs of trainer.devices=2 require more than"
    ):
        check_devices(run_on(devices=2), launcher_config({**LOCAL, "gpus_per_node": 3}))


def test_settings_sent_to_the_cluster() -> None:
    asked = {
        **SLURM,
        "partition": "gpu",
        "nodes": 2,
        "gpus_per_node": 8,
        "extra": {"exclude": "node7"},
        "setup": ["module load x"],
    }
    told = parameters(launcher_config(asked), name="meow")
    assert told["slurm_partition"] == "gpu"
    assert (told["nodes"], told["tasks_per_node"], told["gpus_per_node"], told["mem_gb"]) == (2, 1, 8, 64)
    assert told["slurm_additional_parameters"] == {"exclude": "node7"}
    assert told["slurm_setup"] == ["module load x"]
    assert told["slurm_array_parallelism"] == 64
    assert not {"slurm_account", "slurm_qos", "slurm_constraint"} & set(told)  # null: the cluster's own
    assert "gpus_per_node" not in parameters(launcher_config({**SLURM, "gpus_per_node": 0}), name="meow")
    assert set(parameters(launcher_config(LOCAL), name="meow")) == {"timeout_min", "stderr_to_stdout", "name"}


def test_without_sbatch_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^hydra/launcher=slurm requires sbatch"):
        Queue(launcher_config({**SLURM, "folder": str(tmp_path / "jobs")}), name="meow", notify=lambda _: None)


def squeue(folder: Path, said: str, *, status: int = 0, complaint: str = "") -> None:
    path = folder / "squeue"
    path.write_text(f"#!/bin/sh\nprintf '{said}'\nprintf '{complaint}' >&2\nexit {status}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_job_that_is_gone_without_a_word_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    queue = Queue.__new__(Queue)
    queue.slurm, queue.launcher = True, launcher_config(SLURM)
    jobs = [SimpleNamespace(job_id=name, paths=SimpleNamespace(stdout="log")) for name in ("7_0", "7_1")]
    squeue(tmp_path, r"7_1\n")
    assert queue._gone(jobs) == {"7_0"}
    squeue(tmp_path, "", status=1, complaint="slurm_load_jobs error: Invalid job id specified")
    assert queue._gone(jobs) == {"7_0", "7_1"}
    squeue(tmp_path, "", status=1, complaint="Unable to contact slurm controller")
    assert queue._gone(jobs) == set()  # a cluster that does not answer says nothing of its jobs

    monkeypatch.setattr(queue_module, "OUTCOME_TIMEOUT", 0.0)
    tasks = [
        Task(name="a", config=options(), keys=None, outcome=str(tmp_path / f"{n}.json"), visible=None) for n in range(2)
    ]  # fmt: skip
    running = {number: queue_module._Running(job, 0) for number, job in enumerate(jobs)}
    squeue(tmp_path, r"7_1\n")
    assert queue._ended(tasks, running) in ([], [0])  # it has a moment to leave its file
    assert queue._ended(tasks, running) == [0]
    error = queue._result(tasks[0], jobs[0])
    assert str(error).startswith("the job 7_0 was killed or cancelled (out of memory")
    (tmp_path / "1.json").write_text('{"ok": true}')
    assert queue._ended(tasks, running) == [0, 1]
    assert queue._result(tasks[1], jobs[1]) is None
    assert subprocess.run(["squeue"], capture_output=True).returncode == 0
