"""A cell's run at Weights & Biases: online where its server answers, else recorded on disk to be uploaded later."""

from __future__ import annotations

import http.client
import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, check_choice
from meow_lightning.store.folders import owner_only, restrict_to_owner
from meow_lightning.tracking.disclosure import SHAREABLE

REPORTING = "WANDB_ERROR_REPORTING"
PATIENCE = 5.0  # seconds to wait for W&B's server before a run goes on offline
START = 20.0  # seconds that the start of an online run may take
UPLOAD = 60.0  # seconds to wait at the end of a run until W&B has taken all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunName:
    """What a W&B run is called.

    Attributes:
        project: W&B project.
        group: W&B group.
        name: Readable name of the cell.
        key: The cell's key, the run's id.
    """

    project: str
    group: str
    name: str
    key: str


class Wandb:
    """One W&B run per cell. Neither code nor git's state is sent, whatever the environment says.

    Args:
        folder: Where W&B keeps its files.
        run: What the run is called.
        mode: ``auto`` (what ``WANDB_MODE`` says, else online when a key is there and the server answers), ``online`` or
            ``offline``.
        config: The options to be shown.
        texts: Whether the report with its questions and answers goes into the run, or the page without.
        private: Whether the dataset is not public: then nothing of the machine and the command line is sent, and the
            files are their owner's alone.

    Raises:
        UserError: Online is asked for and there is no key, or the server does not answer.
    """

    appends = True

    def __init__(
        self, *, folder: Path, run: RunName, mode: str, config: Mapping[str, Any], texts: bool, private: bool
    ) -> None:
        check_choice("logger.mode", mode, ("auto", "online", "offline"))
        if mode == "online" and not wandb_key():
            raise UserError("logger.mode=online needs a W&B key: run `wandb login`, or say logger.mode=offline")
        os.environ.setdefault("WANDB_SILENT", "true")
        # W&B's own diagnostics: they leave the machine, and the program's end waits for them where nobody answers.
        os.environ[REPORTING] = "false" if private else os.environ.get(REPORTING, "false")
        import wandb

        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        self._wandb, self._page, self._private = wandb, "report.html" if texts else SHAREABLE, private
        self._words: dict[str, Any] = {
            "project": run.project, "group": run.group, "name": run.name, "id": run.key, "resume": "allow",
            "config": dict(config), "dir": str(folder), "settings": wandb.Settings(**_settings(private)),
            "job_type": "cell",
        }  # fmt: skip
        self.opening = ""
        wished = os.environ.get("WANDB_MODE") or ("online" if wandb_key() else "offline")
        with owner_only(private):
            self._run = self._begun(wished if mode == "auto" else mode, must=mode == "online")
        self._curves: set[str] = set()

    def _begun(self, mode: str, *, must: bool) -> Any:
        """A run; offline where the server does not answer, unless it ``must``."""
        if mode != "online":
            return self._wandb.init(mode=mode, **self._words)  # type: ignore[arg-type]
        url = self._wandb.setup().settings.base_url
        silence = unreachable(url, seconds=PATIENCE)
        why = f"W&B at {url} does not answer ({silence})"
        if silence is None:
            try:
                return self._wandb.init(mode="online", **self._words)
            except Exception as error:  # noqa: BLE001 - no failure of a server is worth a training
                why = f"W&B at {url} takes no run ({(str(error).splitlines() or [type(error).__name__])[0]})"
            self._wandb.teardown()  # the failed try still holds the run's id
        if must:
            raise UserError(f"{why}; say logger.mode=offline")
        self.opening = f"{why}; this run is recorded offline"
        return self._wandb.init(mode="offline", **self._words)

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Log one point against its own curve's step."""
        curve = name.replace(" ", "_")
        if curve not in self._curves:
            self._curves.add(curve)
            self._run.define_metric(f"{curve}/*", step_metric=f"{curve}/step")
        self._run.log({f"{curve}/{key}": value for key, value in values.items()})

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """Set the summary, add the report's page that may be shown, end the run with its true state."""
        self._run.summary.update(dict(summary))
        if report is not None and (page := report / self._page).exists():
            self._run.log({"report": self._wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
        offline, url = bool(self._run.settings._offline), self._run.url
        folder = Path(self._run.dir).parent
        try:
            self._run.finish(exit_code=0 if ok else 1)
        except TimeoutError:
            line = f"W&B did not take all of the run within {UPLOAD:g} s; to upload: wandb sync {folder}"
        else:
            line = f"W&B offline; to upload: wandb sync {folder}" if offline else f"W&B: {url}"
        if self._private:
            restrict_to_owner(folder)
        return line


def _settings(private: bool) -> dict[str, Any]:
    """How W&B is set up, over what the environment says.

    Args:
        private: Whether nothing of the machine and the command line may be sent.
    """
    plain: dict[str, Any] = {
        "silent": True, "console": "off", "init_timeout": START,
        "finish_timeout": UPLOAD, "finish_timeout_raises": True,
        "save_code": False, "disable_code": True, "disable_git": True, "disable_job_creation": True,
    }  # fmt: skip
    if not private:
        return plain
    # W&B fills in what is null, so these are given; program and its kin are the command line's.
    nameless = {"host": "host", "username": "user", "program": "run.py", "program_relpath": "run.py"}
    return {**plain, **nameless, "x_disable_meta": True, "x_disable_machine_info": True, "x_disable_stats": True}


def unreachable(url: str, *, seconds: float) -> str | None:
    """Why a server does not answer within some seconds, ``None`` when it does, with whatever status.

    Asked in a thread: looking up a name takes as long as the system likes.
    """
    found: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=seconds).close()
        except urllib.error.HTTPError:
            found.append(None)
        except urllib.error.URLError as error:
            # Certificates may be known to W&B that are not known here.
            found.append(None if isinstance(error.reason, ssl.SSLError) else str(error.reason))
        except (OSError, http.client.HTTPException) as error:
            found.append(str(error) or type(error).__name__)
        else:
            found.append(None)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else f"nothing within {seconds:g} s"


def wandb_key() -> bool:
    """Whether a W&B key is there, in the environment or from ``wandb login``; it is not kept."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return any("wandb" in host for host in netrc.netrc(path).hosts)
    except (OSError, netrc.NetrcParseError):
        return False
