"""Where a model comes from: a folder here, or a repository of the Hugging Face hub at one revision."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.models.checkpoint import missing_tokenizer, missing_weights
from meow_lightning.store.durable import write_json

HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
BLOB = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
# All that a model or tokenizer is loaded from; code, pickles and other formats of the weights stay where they are.
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
PATIENCE = 10.0  # seconds to wait for the hub's first word


@dataclass(frozen=True, slots=True)
class Source:
    """A folder, or a hub repository with its revision.

    Attributes:
        option: How the user named it, such as ``model.target``; for the messages.
        folder: The folder, ``None`` for a repository.
        repository: Its hub id; empty for a folder.
        revision: Commit, branch or tag; ``None`` for the default branch.
    """

    option: str
    folder: Path | None
    repository: str
    revision: str | None

    def __str__(self) -> str:
        """What the user wrote."""
        return str(self.folder) if self.folder else self.repository + (f"@{self.revision}" if self.revision else "")


def parse(option: str, text: str, *, words: Sequence[str]) -> Source:
    """The source that a text names: a folder when there is one of that name, else a hub id with or without revision.

    Args:
        option: The option that holds the text.
        text: ``FOLDER``, ``owner/name`` or ``owner/name@revision``.
        words: What the option may hold instead, for the message.

    Raises:
        UserError: It is neither.
    """
    if not text.strip():
        raise UserError(f"{option}= is empty; give {_allowed(words)}")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{option}={text} is no folder ({error}); give {_allowed(words)}") from error
    if path.is_dir():
        return Source(option, path.resolve(), "", None)
    found = HUB.fullmatch(text)
    if found is None or text.startswith((".", "/", "~")) or path.is_file():
        what = "is a file, not a folder" if path.is_file() else f"is no folder{_near(path, words)}"
        raise UserError(f"{option}={text} {what}; give {_allowed(words)}")
    return Source(option, None, found["id"], found["revision"])


def _allowed(words: Sequence[str]) -> str:
    *first, last = ["a folder", "a hub id such as owner/name@revision", *words]
    return f"{', '.join(first)} or {last}"


def _near(path: Path, words: Sequence[str]) -> str:
    parent = path.parent
    there = [str(parent / each.name) for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    near = get_close_matches(str(path), [*there, *words], n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""


def identity(source: Source, *, memory: Path) -> str:
    """What names the content of a source in a key: the digest of a folder's files, a repository's id and commit.

    Args:
        source: The source.
        memory: File that remembers digests by path, size and time, since hashing gigabytes takes a minute.

    Raises:
        UserError: The commit of a branch cannot be found out.
    """
    if source.folder is not None:
        try:
            return _digest(source.folder, memory)
        except OSError as error:
            raise UserError(f"{source.option}: {error.filename} cannot be read ({error.strerror}); mend it") from error
    return str(pin_revision(source))


def weights_identity(source: Source, *, memory: Path) -> str:
    """What names the weights of a source alone, alike for the same files in a folder and on the hub.

    Args:
        source: The source, a repository at one commit.
        memory: As for :func:`identity`.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = source.folder
    if folder is None:
        cached = repo_folder_name(repo_id=source.repository, repo_type="model")
        folder = Path(constants.HF_HUB_CACHE) / cached / "snapshots" / str(source.revision)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return str(source)
    known, digests = _remembered(memory), []
    for path in files:
        # The hub's cache names a large file by its digest, which spares reading gigabytes.
        blob = path.resolve().name
        digests.append(blob if BLOB.fullmatch(blob) else _file_digest(path, known))
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]


def pin_revision(source: Source) -> Source:
    """The source at the commit that its branch or tag is now, so that a branch that moves on changes nothing under way.

    Raises:
        UserError: The commit of a branch cannot be found out.
    """
    return source if source.folder is not None else replace(source, revision=_commit(source))


def _commit(source: Source) -> str:
    if source.revision is not None and COMMIT.fullmatch(source.revision):
        return source.revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    branch = source.revision or "main"
    try:
        return str(HfApi().model_info(source.repository, revision=branch, timeout=PATIENCE).sha)
    except Exception as error:
        cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source.repository, repo_type="model") / "refs"
        if not _says_no(error) and (cached / branch).is_file():
            return (cached / branch).read_text(encoding="utf-8").strip()
        raise UserError(_why_not(source, error)) from error


def locate(source: Source, *, weights: bool, fetch: bool) -> Path:
    """The folder that holds a source's files.

    Args:
        source: The source.
        weights: Whether its weights are wanted, or its tokenizer alone.
        fetch: Whether what the cache lacks is downloaded (with a progress bar); else it must be there.

    Raises:
        UserError: It is not in the cache and cannot be had.
    """
    if source.folder is not None:
        return source.folder
    from huggingface_hub import HfApi, snapshot_download

    patterns = [pattern for pattern in FILES if weights or pattern != "*.safetensors"]
    # The hub's patterns reach into folders, where checkpoints and other formats of the same weights lie.
    asked: dict[str, Any] = {"revision": source.revision, "allow_patterns": patterns, "ignore_patterns": "*/*"}
    folder = _cached(source, asked)
    if folder is not None and (missing_weights if weights else missing_tokenizer)(folder) is None:
        return folder
    if not fetch:
        raise UserError(f"{source.option}={source} is not whole in the cache; run again without plan=true to fetch it")
    try:
        HfApi().model_info(source.repository, revision=source.revision, timeout=PATIENCE)  # fails fast, unlike the next
        return Path(snapshot_download(source.repository, **asked))
    except Exception as error:
        raise UserError(_why_not(source, error)) from error


def config_of(source: Source) -> Path:
    """The folder that holds a source's ``config.json``; of a repository that is not here, that file alone is fetched.

    Raises:
        UserError: It is not in the cache and cannot be had.
    """
    if source.folder is not None:
        return source.folder
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, revision = "config.json", source.revision
    try:
        return Path(hf_hub_download(source.repository, name, revision=revision, local_files_only=True)).parent
    except LocalEntryNotFoundError:
        try:
            HfApi().model_info(source.repository, revision=source.revision, timeout=PATIENCE)
            return Path(hf_hub_download(source.repository, name, revision=revision)).parent
        except Exception as error:
            raise UserError(_why_not(source, error)) from error


def _cached(source: Source, asked: dict[str, Any]) -> Path | None:
    """The folder of a repository in the cache; ``None`` when nothing of it is there, or something is known to lack."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.repository, local_files_only=True, **asked))
    except LocalEntryNotFoundError:
        return None


def _status(error: Exception) -> int:
    """The status that the hub answered with, 0 where it did not answer."""
    return getattr(getattr(error, "response", None), "status_code", None) or 0


def _says_no(error: Exception) -> bool:
    """Whether the hub answered and refused; when it is out of order or asked too often, the cache may still do."""
    return 400 <= _status(error) < 500 and _status(error) not in (408, 429)


def _why_not(source: Source, error: Exception) -> str:
    from huggingface_hub import constants

    reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0][:120]
    bring = f"bring the folder and say {source.option}=FOLDER{_near(Path(source.repository), ())}"
    if _says_no(error):
        what = {
            401: "is not there, or needs a login (hf auth login, or HF_TOKEN)",
            403: "is gated: accept its terms on its page and log in (hf auth login, or HF_TOKEN)",
            404: "is not on the hub: check name and revision",
        }.get(_status(error), f"is refused by the hub ({reason})")
        return f"{source.option}={source} {what}; or {bring}"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
        return (
            f"{source.option}={source} cannot be written into the cache ({constants.HF_HUB_CACHE}: {reason}); mend it, "
            "or say HF_HOME=… where there is room"
        )
    return (
        f"{source.option}={source} is not in the cache ({constants.HF_HUB_CACHE}) and the hub cannot be reached "
        f"({reason}); connect once, {bring}, or say HF_HOME=… where another cache lies"
    )


def _files(folder: Path) -> Iterator[Path]:
    for pattern in FILES:
        yield from sorted(path for path in folder.glob(pattern) if path.is_file())


def _digest(folder: Path, memory: Path) -> str:
    """Sixteen hex digits of the SHA-256 over names and digests of all files that are loaded."""
    known = _remembered(memory)
    before, total = dict(known), hashlib.sha256()
    for path in _files(folder):
        total.update(f"{path.name} {_file_digest(path, known)}\n".encode())
    if known != before and memory.parent.is_dir():
        _remember(memory, known)
    return total.hexdigest()[:16]


def _file_digest(path: Path, known: dict[str, list]) -> str:
    """The SHA-256 of a file, remembered by its path, size, times and inode."""
    state = path.stat()
    # Programs can set the time of content, but not that of change: nothing can be put or written in a file's place.
    stamp = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    entry = known.get(str(path))
    if not isinstance(entry, list) or entry[:-1] != stamp:
        with path.open("rb") as file:
            known[str(path)] = entry = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
    return str(entry[-1])


def _remember(memory: Path, known: dict[str, list]) -> None:
    """Keep digests for the next look, where the disk takes them."""
    try:
        write_json(memory, known, synced=True)
    except OSError:  # a full or read-only disk: it saves time, no more
        return


def _remembered(memory: Path) -> dict[str, list]:
    """[size, time of content, time of change, inode, digest] by path.

    Nothing where the memory is missing or damaged, since all can be read again.
    """
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
