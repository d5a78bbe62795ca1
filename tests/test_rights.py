from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from meow_lightning.errors import UserError
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.folders import make_folder, owner_only, restrict_to_owner
from meow_lightning.store.store import Store


@pytest.fixture
def group() -> Iterator[None]:
    """The umask of users who share with their group."""
    mask = os.umask(0o002)
    yield
    os.umask(mask)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def artifact(*, private: bool) -> Artifact:
    return Artifact(stage="answer", label="", version=1, settings={}, needs={}, inputs={"private": private})


def make(store: Store, what: Artifact) -> Path:
    lock = store.lock(what)
    assert lock is not None
    folder = store.begin(what)
    (folder / "inner").mkdir()
    (folder / "inner" / "rows.jsonl").write_text("{}\n")
    (folder / "inner" / "rows.jsonl").chmod(0o600)  # some writers do
    store.finish(what, {"seconds": 1.0})
    lock.release()
    return store.path(what)


def test_the_umask_is_put_back_even_after_an_error(tmp_path: Path, group: None) -> None:
    with pytest.raises(KeyError), owner_only(True):
        (tmp_path / "secret").touch()
        raise KeyError
    with owner_only(False):
        (tmp_path / "shared").touch()
    (tmp_path / "after").touch()
    assert [mode(tmp_path / name) for name in ("secret", "shared", "after")] == [0o600, 0o664, 0o664]


def test_a_private_folder_lies_in_folders_that_are_shared(tmp_path: Path, group: None) -> None:
    make_folder(tmp_path / "a" / "b", private=True)
    make_folder(tmp_path / "a" / "c", private=False)
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b"), mode(tmp_path / "a" / "c")] == [0o775, 0o700, 0o775]
    make_folder(tmp_path / "a" / "c", private=True)
    assert mode(tmp_path / "a" / "c") == 0o700


def test_closing_leaves_what_links_lead_to(tmp_path: Path) -> None:
    (mine := tmp_path / "mine").write_text("x")
    mine.chmod(0o644)
    (folder := tmp_path / "folder").mkdir(mode=0o755)
    (folder / "file").write_text("x")
    (folder / "link").symlink_to(mine)
    restrict_to_owner(folder)
    assert [mode(folder), mode(folder / "file"), mode(mine)] == [0o700, 0o600, 0o644]


def test_a_private_result_is_its_owners_alone_whatever_the_umask(tmp_path: Path, group: None) -> None:
    store = Store(root=tmp_path / "store", cache="use")
    folder = make(store, artifact(private=True))
    every = [folder, *folder.rglob("*"), *(p for p in (store.root / ".locks").iterdir())]
    assert len(every) == 6  # inner, its file, the manifest; lock and owner
    assert [path for path in every if mode(path) & 0o077] == []
    assert [mode(store.root), mode(folder.parent), mode(store.root / ".locks")] == [0o775] * 3


def test_a_public_result_and_its_lock_are_the_groups_too(tmp_path: Path, group: None) -> None:
    store = Store(root=tmp_path / "store", cache="use")
    folder = make(store, artifact(private=False))
    assert [mode(path) for path in (folder, folder / "inner", folder.parent, store.root)] == [0o775] * 4
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert [path for path in files if mode(path) != 0o664] == []


def test_privacy_is_in_no_key() -> None:
    assert artifact(private=True).key == artifact(private=False).key
    assert artifact(private=True).private
    assert not artifact(private=False).private


def test_private_files_of_another_user_are_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(root=tmp_path / "store", cache="use")
    make(store, artifact(private=True))
    opened = os.open

    def refuse(path: str, *words: object) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)  # tests may run as root, who may read everything
    expected = r"^no permission for .*\.lock: another user computed this result privately .*store=FOLDER$"
    with pytest.raises(UserError, match=expected):
        store.lock(artifact(private=True))
