"""Weights & Biases as a metric sink: online if its server answers, else recorded offline for a later upload."""

from __future__ import annotations

import http.client
import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, check_choice
from meow_lightning.store.folders import owner_only, restrict_to_owner
from meow_lightning.tracking.base import Number, Outcome, RunEnd
from meow_lightning.tracking.disclosure import PAGE, SHAREABLE

ERROR_REPORTING = "WANDB_ERROR_REPORTING"
PROBE_TIMEOUT = 5.0  # seconds to wait for the W&B server before a run continues offline
INIT_TIMEOUT = 20.0  # maximum seconds for the start of an online run
FINISH_TIMEOUT = 60.0  # seconds to wait at the end of a run for the upload to W&B
DATA_DIR = "WANDB_DATA_DIR"  # where W&B keeps tables and lists of files that are not uploaded yet
TAG_LENGTH = 64  # characters that W&B accepts
EXIT_CODES: dict[Outcome, int] = {"finished": 0, "failed": 1, "interrupted": 255}  # the last as W&B's own hook has it
SUMMARIES = {"higher": "max", "lower": "min"}  # the better direction in W&B's words


@dataclass(frozen=True, slots=True, kw_only=True)
class RunName:
    """The names of a W&B run.

    Attributes:
        project: W&B project.
        group: W&B group.
        name: Readable name of the run.
        key: Key of its report, used as the id of the W&B run.
        job: W&B job type: what the run is for.
        tags: W&B tags: names of method, model and dataset.
    """

    project: str
    group: str
    name: str
    key: str
    job: str
    tags: tuple[str, ...]


class Wandb:
    """Logs to one W&B run; code and git state are never sent, regardless of the environment.

    Args:
        folder: Folder of the W&B files.
        run: The names of the run.
        mode: ``auto`` (``WANDB_MODE``, else online if a key is found and the server answers), ``online`` or
            ``offline``.
        config: The options shown with the run.
        texts: Whether to log the questions as a table and the whole report, or the page without texts.
        log_model: Whether to log the files of the unlearned model as an artifact.
        private: Whether the dataset is private: then nothing about the machine and the command line is sent, and
            only the owner may read the files.

    Raises:
        UserError: ``online`` was requested, but no key is found or the server does not answer.
    """

    appends = True

    def __init__(
        self, *, folder: Path, run: RunName, mode: str, config: Mapping[str, Any], texts: bool, log_model: bool,
        private: bool,
    ) -> None:  # fmt: skip
        check_choice("logger.mode", mode, ("auto", "online", "offline"))
        if mode == "online" and not has_wandb_key():
            raise UserError("logger.mode=online needs a W&B key: run `wandb login`, or set logger.mode=offline")
        os.environ.setdefault("WANDB_SILENT", "true")
        # W&B's own diagnostics leave the machine, and exiting would wait for them if no server answers.
        os.environ[ERROR_REPORTING] = "false" if private else os.environ.get(ERROR_REPORTING, "false")
        # W&B's default is in the home folder, where `wandb sync` on another machine would not find them.
        os.environ.setdefault(DATA_DIR, str((folder / "wandb").absolute()))
        import wandb

        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        self._wandb, self._private = wandb, private
        self._texts, self._log_model, self._key = texts, log_model, run.key
        self._init_args: dict[str, Any] = {
            "project": run.project, "group": run.group, "name": run.name, "id": run.key, "resume": "allow",
            "config": dict(config), "dir": str(folder), "settings": wandb.Settings(**_settings(private)),
            "job_type": run.job, "tags": tuple(dict.fromkeys(tag[:TAG_LENGTH] for tag in run.tags)),
        }  # fmt: skip
        self.opening = ""
        requested = os.environ.get("WANDB_MODE") or ("online" if has_wandb_key() else "offline")
        with owner_only(private):
            self._run = self._start(requested if mode == "auto" else mode, required=mode == "online")
        self._curves: set[str] = set()

    def _start(self, mode: str, *, required: bool) -> Any:
        """Start the run, offline if the server does not answer, unless online is ``required``."""
        if mode != "online":
            return self._wandb.init(mode=mode, **self._init_args)  # type: ignore[arg-type]
        url = self._wandb.setup().settings.base_url
        failure = unreachable_reason(url, seconds=PROBE_TIMEOUT)
        why = f"W&B at {url} does not answer ({failure})"
        if failure is None:
            try:
                return self._wandb.init(mode="online", **self._init_args)
            except Exception as error:  # noqa: BLE001 - a server failure must not cost a training
                why = f"W&B at {url} rejects the run ({(str(error).splitlines() or [type(error).__name__])[0]})"
            self._wandb.teardown()  # the failed attempt still holds the run id
        if required:
            raise UserError(f"{why}; set logger.mode=offline")
        self.opening = f"{why}; this run is recorded offline"
        return self._wandb.init(mode="offline", **self._init_args)

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Log one point against the step of its own curve."""
        curve = name.replace(" ", "_")
        if curve not in self._curves:
            self._curves.add(curve)
            self._run.define_metric(f"{curve}/*", step_metric=f"{curve}/step")
        self._run.log({f"{curve}/{key}": value for key, value in values.items()})

    def close(self, end: RunEnd) -> str:
        """Log the final numbers, the report and, where chosen, questions and model; finish the run with its state."""
        folder = Path(self._run.dir).parent
        with owner_only(self._private):
            self._summarize(end.numbers)
            self._show(end)
            if staged := self._log_model and end.model is not None:
                self._stage(end.model)  # type: ignore[arg-type]
        offline, url = bool(self._run.settings._offline), self._run.url
        try:
            self._run.finish(exit_code=EXIT_CODES[end.outcome])
        except TimeoutError:
            line = f"W&B did not receive all of the run within {FINISH_TIMEOUT:g} s; to upload: wandb sync {folder}"
        else:
            line = f"W&B offline; to upload: wandb sync {folder}" if offline else f"W&B: {url}"
        if self._private:
            staging = Path(os.environ[DATA_DIR]) / "artifacts"
            for each in (folder, *([staging] if staging.is_dir() else [])):
                restrict_to_owner(each)
        # Files are not copied, so an upload needs the stored model.
        return f"{line} (reads the model from {end.model})" if staged and not line.startswith("W&B: ") else line

    def _summarize(self, numbers: Sequence[Number]) -> None:
        """Set the final numbers, and declare the better direction of each."""
        for each in numbers:
            if each.direction in SUMMARIES:
                self._run.define_metric(each.name, summary=SUMMARIES[each.direction])
        self._run.summary.update({each.name: each.value for each in numbers})

    def _show(self, end: RunEnd) -> None:
        """Log the page of the report, its pictures, which contain no texts, and the questions."""
        if end.report is not None:
            pages = {"report": end.report / (PAGE if self._texts else SHAREABLE)}
            pages |= {f"figures/{path.stem}": path for path in sorted((end.report / "figures").glob("*.svg"))}
            shown = {
                name: self._wandb.Html(path.read_text(encoding="utf-8"), inject=False)
                for name, path in pages.items()
                if path.exists()
            }
            if shown:
                self._run.log(shown)
        if self._texts and (table := end.questions()) is not None:
            rows = [list(row) for row in table.rows]
            self._run.log({"questions": self._wandb.Table(columns=list(table.columns), data=rows)})

    def _stage(self, model: Path) -> None:
        """Log the files of a model as an artifact, without copying them."""
        artifact = self._wandb.Artifact(f"model-{self._key}", type="model")
        for path in sorted(each for each in model.rglob("*") if each.is_file()):
            artifact.add_file(
                str(path), name=path.relative_to(model).as_posix(), policy="immutable", skip_cache=True
            )  # fmt: skip
        self._run.log_artifact(artifact)


def _settings(private: bool) -> dict[str, Any]:
    """Build the W&B settings, which override the environment.

    Args:
        private: Whether nothing about the machine and the command line may be sent.
    """
    settings: dict[str, Any] = {
        "silent": True, "console": "off", "init_timeout": INIT_TIMEOUT,
        "finish_timeout": FINISH_TIMEOUT, "finish_timeout_raises": True,
        "save_code": False, "disable_code": True, "disable_git": True, "disable_job_creation": True,
    }  # fmt: skip
    if not private:
        return settings
    # W&B fills in nulls, so these need values; program and program_relpath would reveal the command line.
    anonymous = {"host": "host", "username": "user", "program": "run.py", "program_relpath": "run.py"}
    return {**settings, **anonymous, "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True}


def unreachable_reason(url: str, *, seconds: float) -> str | None:
    """Explain why a server does not answer within some seconds; ``None`` if it does, with any status.

    Runs in a thread: a name lookup has no timeout of its own.
    """
    reasons: list[str | None] = []

    def probe() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
        except urllib.error.HTTPError:
            reasons.append(None)
        except urllib.error.URLError as error:
            # W&B may trust certificates that are unknown here.
            reasons.append(None if isinstance(error.reason, ssl.SSLError) else str(error.reason))
        except (OSError, http.client.HTTPException) as error:
            reasons.append(str(error) or type(error).__name__)
        else:
            reasons.append(None)

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(seconds)
    return reasons[0] if reasons else f"nothing within {seconds:g} s"


def has_wandb_key() -> bool:
    """Whether a W&B key is set in the environment or by ``wandb login``; the key itself is not kept.

    W&B's own ``wandb.login(prompt=False)`` exists in recent versions only, rewrites W&B's settings file, and finds no
    key if ``WANDB_MODE=offline``.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return any("wandb" in host for host in netrc.netrc(path).hosts)
    except (OSError, netrc.NetrcParseError):
        return False
