"""Upload of a model's folder to a Hugging Face hub; every failure is one line, and no token is ever printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, invalid_option

WRITING = "a token that may write to {owner}: run `hf auth login`, or set HF_TOKEN"
AGAIN = "the same command with --update completes it"
CONFLICT, DENIED = 409, (401, 403)  # HTTP status of a repository that exists, and of a token without the right


def check_repository(repository: str) -> str:
    """Return ``owner/name`` if a hub accepts it.

    Raises:
        UserError: It does not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise invalid_option("REPOSITORY", repository, f"owner/name as hubs allow it ({_line(error)})") from error
    if repository.count("/") != 1:
        raise invalid_option("REPOSITORY", repository, "owner/name")
    return repository


def licence_on_hub(repository: str) -> str | None:
    """Read the licence in the card of a hub's model; ``None`` if it has none or the hub does not answer."""
    from huggingface_hub import HfApi, ModelCard, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    stored = try_to_load_from_cache(repository, "README.md")
    if isinstance(stored, str):
        return ModelCard.load(stored).data.license
    try:
        card = HfApi().model_info(repository, timeout=10.0).card_data
    except (HfHubHTTPError, HTTPError, OSError):
        return None
    return None if card is None else card.license


def push_folder(
    folder: Path, files: Sequence[str], card: str, repository: str, *, private: bool | None, update: bool
) -> str:
    """Create a repository and upload files of a folder with a model card; returns the address of the repository.

    Args:
        folder: The folder.
        files: Names of its files.
        card: The card, for ``README.md``.
        repository: ``owner/name``.
        private: Whether only its owner may see it; ``None`` for what the owner's account says.
        update: Whether the repository may exist already; its files of the same names are replaced in a new commit.

    Raises:
        UserError: There is no token, the repository exists, the hub refuses or does not answer.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    owner = repository.partition("/")[0]
    if get_token() is None:
        raise UserError(f"pushing to {repository} needs {WRITING.format(owner=owner)}")
    api = HfApi(library_name="meow-lightning")
    created = False
    try:
        url = api.create_repo(repository, private=private, exist_ok=update)
        created = True
        _commit(api, folder, files, card, repository)
    except HfHubHTTPError as error:
        raise _refused(error, repository, api.endpoint, created=created) from error
    except (HTTPError, OSError) as error:
        more = f"; the repository is there, but incomplete: {AGAIN}" if created else ""
        raise UserError(f"the hub at {api.endpoint} does not answer ({_line(error)}){more}") from error
    return str(url)


def _commit(api: Any, folder: Path, files: Sequence[str], card: str, repository: str) -> None:
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
    operations.append(CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card.encode()))
    api.create_commit(repository, operations, commit_message="Unlearned model with its card")


def _refused(error: Any, repository: str, endpoint: str, *, created: bool) -> UserError:
    status = getattr(error.response, "status_code", None)
    if status == CONFLICT and not created:
        return UserError(
            f"{repository} exists already at {endpoint}: choose another name, or add --update to replace its files in "
            "a new commit"
        )
    if status in DENIED:
        needed = WRITING.format(owner=repository.partition("/")[0])
        return UserError(f"the hub at {endpoint} rejects the token (HTTP {status}); it needs {needed}")
    more = f"; the repository is there, but incomplete: {AGAIN}" if created else ""
    return UserError(f"the hub at {endpoint} refuses {repository} (HTTP {status}: {_line(error)}){more}")


def _line(error: Exception) -> str:
    """Return the first line of an error without any token."""
    from huggingface_hub import get_token

    text = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    token = get_token()
    return text.replace(token, "…") if token else text
