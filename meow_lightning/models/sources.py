"""Model sources: a local folder or GGUF file, or a Hugging Face hub repository at one revision."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, invalid_option, suggestion
from meow_lightning.models.gguf_file import SUFFIX, is_gguf
from meow_lightning.models.pretrained_folder import missing_tokenizer, problem
from meow_lightning.store.durable import write_json

HUB = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
BLOB = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
# All files that a model or tokenizer is loaded from; no code, pickles or other weight formats.
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
FETCHED = "SmolLM2-135M-Instruct"  # start of the name of the file that `make smollm2` fetches
TIMEOUT = 10.0  # seconds to wait for the hub's first response


@dataclass(frozen=True, slots=True)
class Source:
    """A folder or GGUF file, or a hub repository with its revision.

    Attributes:
        option: The option that names it, such as ``model.target``; for error messages.
        path: The folder or file, ``None`` for a repository.
        repository: Its hub id; empty for a path.
        revision: Commit, branch or tag; ``None`` for the default branch.
    """

    option: str
    path: Path | None
    repository: str
    revision: str | None

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file."""
        return self.path is not None and self.path.is_file()

    def __str__(self) -> str:
        """Return the text that the user gave."""
        return str(self.path) if self.path else self.repository + (f"@{self.revision}" if self.revision else "")


def parse(option: str, text: str, *, words: Sequence[str]) -> Source:
    """Parse a source: a folder or GGUF file if one of that name exists, else a hub id with or without revision.

    Args:
        option: The option that holds the text.
        text: ``FOLDER``, ``FILE.gguf``, ``owner/name`` or ``owner/name@revision``.
        words: Other allowed values of the option, for the error message.

    Raises:
        UserError: The text is neither an existing folder, nor a GGUF file, nor a valid hub id.
    """
    if not text.strip():
        raise invalid_option(option, "", _allowed(words))
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{option}={text} is invalid ({error}): expected {_allowed(words)}") from error
    if path.is_dir() or is_gguf(path):
        return Source(option, path.resolve(), "", None)
    match = HUB.fullmatch(text)
    if match is None or text.startswith((".", "/", "~")) or path.is_file() or text.lower().endswith(SUFFIX):
        hint = ", not another file" if path.is_file() else _similar(path, words)
        a_path = text.startswith((".", "/", "~")) or text.lower().endswith(SUFFIX)
        wrong = "does not exist" if a_path and not path.exists() else "is invalid"
        fetched = "; `make smollm2` fetches this file" if path.name.startswith(FETCHED) else ""
        raise UserError(f"{option}={text} {wrong}: expected {_allowed(words)}{hint}{fetched}")
    return Source(option, None, match["id"], match["revision"])


def _allowed(words: Sequence[str]) -> str:
    *first, last = ["a folder", "a GGUF file", "a hub id such as owner/name@revision", *words]
    return f"{', '.join(first)} or {last}"


def _similar(path: Path, words: Sequence[str]) -> str:
    parent = path.parent
    entries = parent.iterdir() if parent.is_dir() else ()
    siblings = [str(parent / child.name) for child in entries if child.is_dir() or child.suffix.lower() == SUFFIX]
    return suggestion(path, [*siblings, *words])


def identity(source: Source, *, memory: Path) -> str:
    """Identify a source's content for artifact keys: a digest of the files, or a repository's id and commit.

    Args:
        source: The source.
        memory: Cache file of digests by path, size and time, since hashing gigabytes takes a minute.

    Raises:
        UserError: The commit of a branch cannot be determined.
    """
    if source.path is not None:
        try:
            return _digest(source.path, memory)
        except OSError as error:
            raise UserError(f"{source.option}: {error.filename} cannot be read ({error.strerror})") from error
    return str(pin_revision(source))


def weights_identity(source: Source, *, memory: Path) -> str:
    """Identify a source's weights only, with the same result for the same files in a folder and on the hub.

    Args:
        source: The source, a repository at one commit.
        memory: As for :func:`identity`.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = source.path
    if folder is None:
        cache_name = repo_folder_name(repo_id=source.repository, repo_type="model")
        folder = Path(constants.HF_HUB_CACHE) / cache_name / "snapshots" / str(source.revision)
    files = [folder] if source.is_gguf else sorted(folder.glob("*.safetensors"))
    if not files:
        return str(source)
    known, digests = _load_digests(memory), []
    for path in files:
        # The hub's cache names large files by their digest, which saves reading gigabytes.
        blob = path.resolve().name
        digests.append(blob if BLOB.fullmatch(blob) else _file_digest(path, known))
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()[:16]


def pin_revision(source: Source) -> Source:
    """Pin a source to the current commit of its branch or tag, so that a moving branch has no effect during a run.

    Raises:
        UserError: The commit of a branch cannot be determined.
    """
    return source if source.path is not None else replace(source, revision=_commit(source))


def _commit(source: Source) -> str:
    if source.revision is not None and COMMIT.fullmatch(source.revision):
        return source.revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    branch = source.revision or "main"
    try:
        return str(HfApi().model_info(source.repository, revision=branch, timeout=TIMEOUT).sha)
    except Exception as error:
        cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source.repository, repo_type="model") / "refs"
        if not _is_refused(error) and (cached / branch).is_file():
            return (cached / branch).read_text(encoding="utf-8").strip()
        raise UserError(_download_error(source, error)) from error


def locate(source: Source, *, weights: bool, fetch: bool) -> Path:
    """Return the folder with a source's files, or its GGUF file.

    Args:
        source: The source.
        weights: Whether its weights are needed, or only its tokenizer.
        fetch: Whether to download missing files (with a progress bar); otherwise they must be cached.

    Raises:
        UserError: It is not cached and cannot be downloaded.
    """
    if source.path is not None:
        return source.path
    from huggingface_hub import HfApi, snapshot_download

    patterns = [pattern for pattern in FILES if weights or pattern != "*.safetensors"]
    # The hub's patterns match subfolders, which may contain checkpoints and other weight formats.
    query: dict[str, Any] = {"revision": source.revision, "allow_patterns": patterns, "ignore_patterns": "*/*"}
    folder = _cached(source, query)
    if folder is not None and (problem if weights else missing_tokenizer)(folder) is None:
        return folder
    if not fetch:
        raise UserError(f"{source.option}={source} is incomplete in the cache; run without plan=true to download it")
    try:
        HfApi().model_info(
            source.repository, revision=source.revision, timeout=TIMEOUT
        )  # fails fast, unlike the download
        return Path(snapshot_download(source.repository, **query))
    except Exception as error:
        raise UserError(_download_error(source, error)) from error


def config_of(source: Source) -> Path:
    """Return the folder with a source's ``config.json`` or its GGUF file, downloading only that file if necessary.

    Raises:
        UserError: It is not cached and cannot be downloaded.
    """
    if source.path is not None:
        return source.path
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, revision = "config.json", source.revision
    try:
        return Path(hf_hub_download(source.repository, name, revision=revision, local_files_only=True)).parent
    except LocalEntryNotFoundError:
        try:
            HfApi().model_info(source.repository, revision=source.revision, timeout=TIMEOUT)
            return Path(hf_hub_download(source.repository, name, revision=revision)).parent
        except Exception as error:
            raise UserError(_download_error(source, error)) from error


def _cached(source: Source, query: dict[str, Any]) -> Path | None:
    """Return a repository's folder in the cache; ``None`` if it is absent or known to be incomplete."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.repository, local_files_only=True, **query))
    except LocalEntryNotFoundError:
        return None


def _status(error: Exception) -> int:
    """Return the hub's HTTP status, 0 without a response."""
    return getattr(getattr(error, "response", None), "status_code", None) or 0


def _is_refused(error: Exception) -> bool:
    """Whether the hub refused the request; on server errors or rate limits the cache may still suffice."""
    return 400 <= _status(error) < 500 and _status(error) not in (408, 429)


def _download_error(source: Source, error: Exception) -> str:
    from huggingface_hub import constants

    reason = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0][:120]
    what = ("GGUF file", "FILE.gguf") if "gguf" in source.repository.lower() else ("folder", "FOLDER")
    similar = _similar(Path(source.repository), ())
    remedy = f"download the {what[0]} yourself and set {source.option}={what[1]}{similar}"
    if _is_refused(error):
        problem = {
            401: "does not exist or needs a login (hf auth login, or HF_TOKEN)",
            403: "is gated: accept its terms on its page and log in (hf auth login, or HF_TOKEN)",
            404: "is not on the hub: check name and revision",
        }.get(_status(error), f"is refused by the hub ({reason})")
        return f"{source.option}={source} {problem}; or {remedy}"
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
        return (
            f"{source.option}={source} cannot be written into the cache ({constants.HF_HUB_CACHE}: {reason}); fix "
            "that, or set HF_HOME to a folder with enough space"
        )
    return (
        f"{source.option}={source} is not in the cache ({constants.HF_HUB_CACHE}) and the hub cannot be reached "
        f"({reason}); connect once, {remedy}, or set HF_HOME to another cache"
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for pattern in FILES:
        yield from sorted(file for file in path.glob(pattern) if file.is_file())


def _digest(path: Path, memory: Path) -> str:
    """Hash names and digests of all files that are loaded, or one file: the first sixteen hex digits of SHA-256."""
    digests = _load_digests(memory)
    before, combined = dict(digests), hashlib.sha256()
    for file in _files(path):
        combined.update(f"{file.relative_to(path)} {_file_digest(file, digests)}\n".encode())
    if digests != before and memory.parent.is_dir():
        _save_digests(memory, digests)
    return combined.hexdigest()[:16]


def _file_digest(path: Path, known: dict[str, list]) -> str:
    """Return the SHA-256 of a file, cached by its path, size, times and inode."""
    stat = path.stat()
    # Programs can set the modification time but not the change time, so changed content is always noticed.
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    entry = known.get(str(path))
    if not isinstance(entry, list) or entry[:-1] != stamp:
        with path.open("rb") as file:
            known[str(path)] = entry = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
    return str(entry[-1])


def _save_digests(memory: Path, known: dict[str, list]) -> None:
    """Save digests for later runs, if the disk allows."""
    try:
        write_json(memory, known, synced=True)
    except OSError:  # a full or read-only disk: the cache only saves time
        return


def _load_digests(memory: Path) -> dict[str, list]:
    """Load [size, modification time, change time, inode, digest] by path.

    Empty if the cache is missing or damaged, since everything can be hashed again.
    """
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
