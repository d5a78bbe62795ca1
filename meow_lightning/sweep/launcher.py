"""The launchers ``slurm`` and ``local``: shared stages of a sweep first, then its runs, each as a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class MeowLauncher(Launcher):
    """Executes runs as jobs.

    Args:
        options: All keys of ``conf/hydra/launcher/<name>.yaml`` except ``_target_``.
    """

    def __init__(self, **options: Any) -> None:
        self._options = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in options.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the config loader."""
        self._loader, self._sweep_config = hydra_context.config_loader, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Execute all runs as jobs; returns the numbers or the error of each, in order."""
        from meow_lightning.config.validation import launcher_config, resolved
        from meow_lightning.sweep.scheduler import launch

        configs = [self._loader.load_sweep_config(self._sweep_config, list(overrides)) for overrides in job_overrides]
        runs = [OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]) for config in configs]
        returns, launcher = [], launcher_config(self._options)
        for overrides, (results, error) in zip(
            job_overrides, launch([resolved(run) for run in runs], launcher), strict=True
        ):
            job_return = JobReturn(overrides=list(overrides))
            job_return.status = JobStatus.COMPLETED if error is None else JobStatus.FAILED
            job_return.return_value = results if error is None else error
            returns.append(job_return)
        return returns
