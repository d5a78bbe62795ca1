"""Carries a cell's curves and numbers from the store to where people look: W&B, a CSV file, or nowhere.

Stages write ``metrics.jsonl``; one tracker in the driver follows the files while they grow and replays those found in
the store, so no two processes own one run and a curve is whole whoever made it.
"""

from __future__ import annotations

import csv
import http.client
import json
import netrc
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from meow_lightning.disclosure import SHAREABLE
from meow_lightning.folders import close_to_others, owner_only
from meow_lightning.store import Artifact, write_json
from meow_lightning.types import UserError

PATIENCE = 5.0  # seconds to wait for W&B's server before a run goes on offline
UPLOAD = 60.0  # seconds to wait at the end of a run until W&B has taken all of it


class Sink(Protocol):
    """Where points go.

    Attributes:
        appends: Whether it adds to what earlier runs of the same cell sent, so that nothing may be sent twice.
        opening: A line for the user about how it began, may be empty.
    """

    appends: bool
    opening: str

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """One point of the curve ``name``; ``values`` holds ``step``."""
        ...

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """The end: final numbers, the report's folder when there is one. Returns a line for the user, may be empty."""
        ...


class Nowhere:
    """Keeps nothing."""

    appends = False
    opening = ""

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """Nothing to say."""
        return ""


class Csv:
    """Writes ``<folder>/<cell>.csv`` with the columns curve, step, name, value.

    Args:
        folder: Where the file goes.
        cell: Its stem.
        private: Whether it is for its owner's eyes alone.
    """

    appends = False
    opening = ""

    def __init__(self, *, folder: Path, cell: str, private: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._private = private
        self.path = folder / f"{cell}.csv"
        self._rows: list[tuple[str, Any, str, float]] = []

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Keep one point."""
        self._rows += [(name, values.get("step"), key, value) for key, value in values.items() if key != "step"]

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """Write the file, replacing that of an earlier run of the same cell; a failed run leaves that one alone."""
        if not ok:
            return ""
        side = self.path.with_suffix(".tmp")
        with owner_only(self._private), side.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("curve", "step", "name", "value"))
            writer.writerows(self._rows)
            writer.writerows(("summary", "", key, value) for key, value in summary.items())
        side.replace(self.path)
        return f"curves: {self.path}"


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
        if mode not in ("auto", "online", "offline"):
            raise UserError(f"logger.mode={mode} is not known; allowed: auto, online, offline")
        if mode == "online" and not wandb_key():
            raise UserError("logger.mode=online needs a W&B key: run `wandb login`, or say logger.mode=offline")
        os.environ.setdefault("WANDB_SILENT", "true")
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
        why = unreachable(url, seconds=PATIENCE)
        if why is None:
            try:
                return self._wandb.init(mode="online", **self._words)
            except Exception as error:  # noqa: BLE001 - no failure of a server is worth a training
                why = (str(error).splitlines() or [type(error).__name__])[0]
            self._wandb.teardown()  # the failed try still holds the run's id
        if must:
            raise UserError(f"W&B at {url} does not answer ({why}); say logger.mode=offline")
        self.opening = f"W&B at {url} does not answer ({why}); this run is recorded offline"
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
            close_to_others(folder)
        return line


def _settings(private: bool) -> dict[str, Any]:
    """How W&B is set up, over what the environment says.

    Args:
        private: Whether nothing of the machine and the command line may be sent.
    """
    plain: dict[str, Any] = {
        "silent": True, "console": "off", "init_timeout": 20, "finish_timeout": UPLOAD, "finish_timeout_raises": True,
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


class Told:
    """Which results of a cell a logger has been told of, kept in a file between runs.

    Args:
        path: The file.
        private: Whether it is for its owner's eyes alone.
    """

    def __init__(self, path: Path, *, private: bool) -> None:
        self._path, self._private = path, private
        self.keys: set[str] = set(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else set()

    def add(self, keys: Collection[str]) -> None:
        """Remember that these were told too."""
        self.keys |= set(keys)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with owner_only(self._private):
            write_json(self._path, sorted(self.keys))


class Tracker:
    """Follows the stages of one cell and feeds a sink.

    Args:
        sink: Where points go.
        told: Keys of results whose curves the sink already has, from an earlier run of the cell.
    """

    def __init__(self, *, sink: Sink, told: Collection[str]) -> None:
        self.sink, self._told = sink, told
        self.finished_keys: set[str] = set()
        self._places: dict[str, tuple[int, int]] = {}
        self._passed: set[tuple[object, ...]] = set()

    def running(self, artifacts: Mapping[str, tuple[Artifact, Path]]) -> None:
        """Pass on what running stages have newly written."""
        for artifact, folder in artifacts.values():
            self._follow(artifact, folder)

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, made: bool) -> None:
        """Pass on the rest of a stage's curve, all of it when the stage was found."""
        self._follow(artifact, folder)
        self.finished_keys.add(artifact.key)

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """Nothing: the maker's curve is replayed when it is there."""

    def _follow(self, artifact: Artifact, folder: Path) -> None:
        if artifact.key in self._told:
            return
        for point in self._new(artifact.key, folder / "metrics.jsonl"):
            mark = (artifact.key, point.get("step"), *sorted(point))
            if mark not in self._passed:
                self._passed.add(mark)
                self.sink.point(f"{artifact.stage} {artifact.label}".strip(), point)

    def _new(self, key: str, path: Path) -> Iterator[dict[str, Any]]:
        try:
            with path.open("rb") as file:
                number = os.fstat(file.fileno()).st_ino
                known, offset = self._places.get(key, (number, 0))
                if known != number:
                    offset = 0  # a resumed training wrote its curve anew, up to its checkpoint
                file.seek(offset)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._places[key] = (number, offset + len(whole))
        for line in whole.splitlines():
            yield json.loads(line)
