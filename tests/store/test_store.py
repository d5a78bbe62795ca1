from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from meow_lightning.errors import UserError
from meow_lightning.store import integrity
from meow_lightning.store import store as module
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.integrity import MANIFEST, digest
from meow_lightning.store.store import Store

HOLD = """
import sys, time
from pathlib import Path
from meow_lightning.store.store import Artifact, Store
a = Artifact(stage="finetune", label="", version=1, settings={"a": 1}, needs={}, inputs={})
lock = Store(root=Path(sys.argv[1]), cache="use").lock(a)
print(lock is not None, flush=True)
time.sleep(60)
"""


def artifact(**changes) -> Artifact:
    whole = {"stage": "finetune", "label": "", "version": 1, "settings": {"a": 1}, "needs": {}, "inputs": {}}
    return Artifact(**{**whole, **changes})


def make(store: Store, what: Artifact, text: str = "whole") -> Path:
    folder = store.begin(what)
    (folder / "result.txt").write_text(text)
    store.finish(what, {"seconds": 1.0})
    return store.path(what)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(root=tmp_path / "store", cache="use")


def test_key_is_the_same_everywhere_and_always():
    # sha256 of '{"components": {}, "needs": {}, "settings": {"a": 1}, "stage": "finetune", "version": 1}', by hand
    assert artifact().key == "f463de1887bc"


def test_key_does_not_see_the_order_of_settings():
    assert artifact(settings={"a": 1, "b": 2}).key == artifact(settings={"b": 2, "a": 1}).key


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"a": 2}}, {"settings": {"a": 1, "b": None}}, {"version": 2}, {"stage": "score"},
        {"components": {"Rmu": 1}}, {"needs": {"start": artifact(version=3)}},
    ],
)  # fmt: skip
def test_key_moves_with_what_changes_a_result(changes):
    assert artifact(**changes).key != artifact().key


def test_key_moves_with_what_a_need_is_made_from_and_with_its_role():
    near, far = artifact(needs={"x": artifact(version=7)}), artifact(needs={"x": artifact(version=8)})
    assert artifact(needs={"start": near}).key != artifact(needs={"start": far}).key
    assert artifact(needs={"start": near}).key != artifact(needs={"other": near}).key


@pytest.mark.parametrize("changes", [{"label": "target"}, {"inputs": {"dataset": {"path": "elsewhere"}}}])
def test_the_key_ignores_runtime_context(changes):
    assert artifact(**changes).key == artifact().key


def test_walk_names_each_need_once_and_first():
    base = artifact(version=9)
    left, right = artifact(needs={"b": base}, version=2), artifact(needs={"b": base}, version=3)
    top = artifact(needs={"l": left, "r": right}, version=4)
    assert [each.version for each in top.walk()] == [9, 2, 3, 4]


def test_manifest_is_written_last(store, monkeypatch):
    seen = {}

    def spy(path, content):
        seen["finished"] = store.path(artifact()).exists()
        seen["partial"] = sorted(each.name for each in store.partial(artifact()).iterdir())
        write_json(path, content)

    monkeypatch.setattr(module, "write_json", spy)
    folder = make(store, artifact())
    assert seen == {"finished": False, "partial": ["result.txt"]}
    assert sorted(each.name for each in folder.iterdir()) == [MANIFEST, "result.txt"]
    assert not store.partial(artifact()).exists()


def test_the_manifest_names_inputs_and_files(store):
    folder = make(store, artifact(needs={"start": artifact(version=5)}, label="target"))
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["needs"] == {"start": artifact(version=5).key}
    assert (manifest["label"], manifest["settings"], manifest["seconds"]) == ("target", {"a": 1}, 1.0)
    state = (folder / "result.txt").stat()
    assert manifest["files"] == {
        "result.txt": {
            "size": 5, "time": state.st_mtime_ns, "changed": state.st_ctime_ns, "inode": state.st_ino,
            "sha256": digest(folder / "result.txt"),
        }
    }  # fmt: skip


def test_scratch_files_are_not_part_of_the_result(store):
    folder = store.begin(artifact())
    (folder / "resume").mkdir()
    for name in ("resume/last.ckpt", "progress.json", "progress.json.77.tmp", "metrics.jsonl"):
        (folder / name).write_text("x")
    assert sorted(store.finish(artifact(), {})["files"]) == ["metrics.jsonl"]
    assert sorted(each.name for each in store.path(artifact()).iterdir()) == [MANIFEST, "metrics.jsonl"]


def damage_missing(folder):
    (folder / "result.txt").unlink()


def damage_size(folder):
    (folder / "result.txt").write_text("half")


def damage_content(folder):
    (folder / "result.txt").write_text("WHOLE")  # as long as before
    os.utime(folder / "result.txt", (time.time() + 5, time.time() + 5))


def damage_json(folder):
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:20])


def damage_no_manifest(folder):
    (folder / MANIFEST).unlink()


def damage_shape(folder):
    (folder / MANIFEST).write_text("[]")


def damage_entry(folder):
    (folder / MANIFEST).write_text(json.dumps({"files": {"result.txt": 5}, "finished": 1.0}))


def damage_facts(folder):
    (folder / MANIFEST).write_text(json.dumps({"files": {}}))


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing, damage_size, damage_content, damage_json, damage_no_manifest, damage_shape, damage_entry,
        damage_facts,
    ],
)  # fmt: skip
def test_damaged_result_is_not_found_set_aside_and_made_again(store, damage):
    folder = make(store, artifact())
    damage(folder)
    assert store.find(artifact()) is None
    assert store.begin(artifact()) == store.partial(artifact())
    assert not folder.exists()
    assert len(list(folder.parent.glob(f"{folder.name}.damaged-*"))) == 1
    make(store, artifact(), "again")
    assert store.find(artifact()) is not None
    assert (folder / "result.txt").read_text() == "again"


def test_half_made_result_is_not_found_and_its_work_stays(store):
    (store.begin(artifact()) / "part.txt").write_text("some")
    assert store.find(artifact()) is None
    assert (store.begin(artifact()) / "part.txt").read_text() == "some"


def test_refresh_remakes_what_an_earlier_session_made_and_keeps_its_own(store, monkeypatch):
    folder = make(store, artifact(), "old")
    refresh = replace_cache(store, "refresh")
    monkeypatch.setattr(module, "SESSION_START", time.time() + 100)
    assert refresh.find(artifact()) is None
    assert store.find(artifact()) is not None
    assert list(refresh.begin(artifact()).iterdir()) == []
    assert (folder / "result.txt").read_text() == "old", "others may read the old result until the new one is whole"
    make(refresh, artifact(), "new")
    assert not list(folder.parent.glob("*.old"))
    monkeypatch.setattr(module, "SESSION_START", time.time() - 100)
    assert refresh.find(artifact()) is not None
    assert (folder / "result.txt").read_text() == "new"


def replace_cache(store: Store, cache) -> Store:
    return Store(root=store.root, cache=cache)


def test_refresh_forgets_partial_work_too(store, monkeypatch):
    make(store, artifact())
    store.partial(artifact()).mkdir()
    (store.partial(artifact()) / "old").write_text("x")
    assert list(replace_cache(store, "refresh").begin(artifact()).iterdir()) == []


def test_readonly_finds(store):
    make(store, artifact())
    assert replace_cache(store, "readonly").find(artifact()) is not None


def test_an_unknown_cache_mode_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cache=maybe is invalid: expected one of use, refresh, readonly"):
        Store(root=tmp_path, cache="maybe")


def test_an_unwritable_root_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"the store .*file/store is not writable \(.*/file is not a folder\); choose another"
    ):
        Store(root=tmp_path / "file" / "store", cache="use").check_writable()


def test_lock_of_another_process_holds_until_it_is_killed(store):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(store.root)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert store.lock(artifact()) is None
        assert store.owner(artifact()) == f"{holder.pid}@{os.uname().nodename}"
        assert store.held(artifact()) is True
        assert store.held(artifact(version=2)) is False
        other = store.lock(artifact(version=2))
        assert other is not None  # a lock holds one result, not the store
        other.release()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert store.held(artifact()) is False
        mine = store.lock(artifact())
        assert mine is not None
        assert store.owner(artifact()).startswith(f"{os.getpid()}@")
        mine.release()
    finally:
        holder.kill()
        holder.wait()


def test_lock_is_taken_once_in_a_process_too(store):
    first = store.lock(artifact())
    assert first is not None
    assert store.lock(artifact()) is None
    first.release()
    again = store.lock(artifact())
    assert again is not None
    again.release()


def test_two_who_look_do_not_take_each_other_for_makers(store):
    taken = store.lock(artifact())
    assert taken is not None
    taken.release()
    with (store.root / ".locks" / f"finetune-{artifact().key}.lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert store.held(artifact()) is False


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), PermissionError(errno.EACCES, "not yours")])
def test_a_lock_that_cannot_be_looked_at_is_neither_held_nor_free(store, monkeypatch, error):
    taken = store.lock(artifact())
    assert taken is not None
    taken.release()

    def broken(*unused):
        raise error

    monkeypatch.setattr(fcntl, "flock", broken)
    assert store.held(artifact()) is None


def test_another_process_sees_the_same_result(store):
    make(store, artifact())
    look = HOLD.replace("lock =", "found =").replace(".lock(a)", ".find(a)").replace("lock is not", "found is not")
    look = look.replace("time.sleep(60)", "print(found['files']['result.txt']['size'])")
    done = subprocess.run([sys.executable, "-c", look, str(store.root)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "5"]


def test_write_json_leaves_the_old_file_when_it_breaks(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    write_json(path, {"ä": 2})
    assert path.read_text(encoding="utf-8") == '{\n "ä": 2\n}\n'
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_write_json_replaces_instead_of_writing_into(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with path.open() as reader:
        write_json(path, {"a": 2})
        assert json.load(reader) == {"a": 1}


def test_artifacts_are_not_changed_by_hand():
    with pytest.raises(AttributeError):
        artifact().label = "x"  # type: ignore[misc]
    assert replace(artifact(), version=2).key != artifact().key


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The files that were hashed, in a process that has hashed none before."""
    names: list[str] = []
    monkeypatch.setattr(integrity, "digest", lambda file: names.append(file.name) or digest(file))
    monkeypatch.setattr(integrity, "_hashed", {})
    return names


def test_a_small_file_is_hashed_once_in_a_process_and_again_when_it_was_touched(store, hashed):
    path = make(store, artifact()) / "result.txt"
    hashed.clear()
    assert [replace_cache(store, "use").find(artifact()) is not None for _ in range(3)] == [True] * 3
    assert hashed == ["result.txt"]
    for seconds in (-5, 5):  # an older file may have been put in its place, too
        os.utime(path, (time.time() + seconds, time.time() + seconds))
        assert store.find(artifact()) is not None  # another time, but the same content
    assert hashed == ["result.txt"] * 3


def test_a_large_file_is_hashed_only_if_its_metadata_changed(store, hashed, monkeypatch):
    monkeypatch.setattr(integrity, "SMALL", 4)
    path = make(store, artifact()) / "result.txt"
    hashed.clear()
    assert store.find(artifact()) is not None
    assert hashed == []
    copy = path.with_name("copy")
    copy.write_text(path.read_text())
    copy.replace(path)  # a copied store
    for _ in range(3):
        integrity._hashed.clear()  # another process
        assert store.find(artifact()) is not None
    assert hashed == ["result.txt"]


def flip(path: Path) -> None:
    """Change a byte and nothing that a program can set."""
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)


@pytest.mark.parametrize("small", [4, 2**20])
@pytest.mark.parametrize("looked", [True, False])
def test_a_flipped_byte_is_seen_though_size_and_time_are_as_before(store, monkeypatch, small, looked):
    monkeypatch.setattr(integrity, "SMALL", small)
    folder = make(store, artifact())
    if looked:
        assert store.find(artifact()) is not None
    flip(folder / "result.txt")
    assert store.find(artifact()) is None
    assert store.damage(artifact()) == "result.txt differs from what was sealed"


@pytest.mark.parametrize("small", [4, 2**20])
def test_a_linked_model_that_another_of_the_same_size_and_time_was_put_for_is_seen(store, mine, monkeypatch, small):
    monkeypatch.setattr(integrity, "SMALL", small - 1)
    (store.begin(artifact()) / "file").symlink_to(mine)
    store.finish(artifact(), {})
    other, state = mine.with_name("other"), mine.stat()
    other.write_text("MINE")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(mine)
    assert store.find(artifact()) is None


def test_two_results_that_exchanged_their_names_are_both_damaged(store):
    one, two = artifact(), artifact(version=2)
    first, second = make(store, one, "one"), make(store, two, "two")
    side = first.with_name("side")
    first.rename(side)
    second.rename(first)
    side.rename(second)
    assert [store.find(one), store.find(two)] == [None, None]
    assert store.damage(one) == f"it is a different result: finetune {two.key}"


def test_a_result_of_another_stage_under_the_same_key_is_damaged(store):
    other = artifact(stage="score")
    folder = make(store, artifact())
    manifest = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, {**manifest, "key": other.key})
    store.path(other).parent.mkdir()
    folder.rename(store.path(other))
    assert store.find(other) is None
    assert store.damage(other) == f"it is a different result: finetune {other.key}"


def test_a_manifest_that_was_changed_is_damaged(store):
    folder = make(store, artifact())
    text = (folder / MANIFEST).read_text()
    assert '"seconds": 1.0' in text
    (folder / MANIFEST).write_text(text.replace('"seconds": 1.0', '"seconds": 9.0'))
    assert store.find(artifact()) is None
    assert store.damage(artifact()) == "its manifest.json differs from what was sealed"


def test_a_result_from_before_there_were_seals_and_inodes_is_believed_by_its_digests(store, monkeypatch):
    monkeypatch.setattr(integrity, "SMALL", 4)
    folder = make(store, artifact())
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["seal"], manifest["files"]["result.txt"]["inode"], manifest["files"]["result.txt"]["changed"]
    write_json(folder / MANIFEST, manifest)
    integrity._hashed.clear()
    assert store.find(artifact()) is not None
    flip(folder / "result.txt")
    assert store.find(artifact()) is None


def test_seals_support_settings_with_numeric_keys(store):
    folder = store.begin(what := artifact(settings={2: "two", 10: "ten"}))
    (folder / "result.txt").write_text("whole")
    store.finish(what, {})
    integrity._hashed.clear()
    assert store.find(what) is not None


def test_readonly_remembers_nothing_on_the_disk(store, monkeypatch):
    monkeypatch.setattr(integrity, "SMALL", 4)
    path = make(store, artifact()) / "result.txt"
    path.touch()
    assert replace_cache(store, "readonly").find(artifact()) is not None
    assert not (store.root / ".verified").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_a_sealed_result_is_on_the_disk_before_its_rename(store, monkeypatch, killed):
    order: list[list[str]] = []
    rename = Path.rename
    if killed:
        sealed(store, monkeypatch)
    monkeypatch.setattr(module, "sync_to_disk", lambda paths: order.append(sorted(path.name for path in paths)))
    monkeypatch.setattr(Path, "rename", lambda path, new: (order.append([f"named {new.name}"]), rename(path, new))[1])
    if killed:
        lock = store.lock(artifact())
        assert lock is not None
        lock.release()
    else:
        make(store, artifact())
    assert order == [[f"{artifact().key}.partial", MANIFEST, "result.txt"], [f"named {artifact().key}"]]


@pytest.fixture
def mine(tmp_path) -> Path:
    """A file of the user's own that nobody else may read, in a folder of its own."""
    path = tmp_path / "mine" / "weights"
    path.parent.mkdir(mode=0o700)
    path.write_text("mine")
    path.chmod(0o600)
    os.utime(path, (1e9, 1e9))
    return path


def test_linked_files_count_and_stay_unchanged(store, mine):
    before = (mine.stat().st_mode, mine.stat().st_mtime_ns, mine.parent.stat().st_mode)
    folder = store.begin(artifact())
    (folder / "file").symlink_to(mine)
    (folder / "folder").symlink_to(mine.parent)
    manifest = store.finish(artifact(), {})
    assert manifest["files"]["file"] == integrity.file_entry(mine)
    assert (store.path(artifact()) / "file").is_symlink()
    assert (mine.stat().st_mode, mine.stat().st_mtime_ns, mine.parent.stat().st_mode) == before
    assert store.find(artifact()) is not None


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_a_link_to_what_has_changed_is_a_damaged_result_and_setting_it_aside_keeps_the_file(store, mine, change):
    (store.begin(artifact()) / "file").symlink_to(mine)
    store.finish(artifact(), {})
    mine.unlink()
    if change == "edited":
        mine.write_text("MINE")
        os.utime(mine, (time.time() + 5, time.time() + 5))
    assert store.find(artifact()) is None
    store.begin(artifact())
    assert mine.exists() == (change == "edited")
    assert len(list(store.path(artifact()).parent.glob("*.damaged-*"))) == 1


def test_the_old_result_of_a_refresh_goes_with_its_links_alone(store, mine, monkeypatch):
    (store.begin(artifact()) / "file").symlink_to(mine)
    store.finish(artifact(), {})
    monkeypatch.setattr(module, "SESSION_START", time.time() + 100)
    refresh = replace_cache(store, "refresh")
    folder = make(refresh, artifact(), "new")
    assert sorted(each.name for each in folder.iterdir()) == [MANIFEST, "result.txt"]
    assert mine.read_text() == "mine"


def test_results_are_readable_by_others_as_the_umask_allows(store):
    folder = store.begin(artifact())
    (folder / "inner").mkdir(mode=0o700)
    (folder / "inner" / "private").write_text("x")
    (folder / "inner" / "private").chmod(0o600)
    mask = os.umask(0o027)
    try:
        store.finish(artifact(), {})
    finally:
        os.umask(mask)
    made = store.path(artifact()) / "inner"
    assert (made.stat().st_mode & 0o777, (made / "private").stat().st_mode & 0o777) == (0o750, 0o640)


@pytest.mark.parametrize("there", [True, False])
def test_an_old_result_left_by_a_kill_between_renames_does_no_harm(store, there):
    folder = make(store, artifact(), "first")
    old = folder.with_name(f"{folder.name}.old")
    if there:  # the kill came before the last removal: both are there
        old.mkdir()
        (old / "result.txt").write_text("older")
        store.partial(artifact()).mkdir()
    else:  # it came between the two renames: the new one is whole but has no name yet
        folder.rename(old)
        store.partial(artifact()).mkdir()
        assert store.find(artifact()) is None
    (store.partial(artifact()) / "result.txt").write_text("second")
    store.finish(artifact(), {})
    assert store.find(artifact()) is not None
    assert (folder / "result.txt").read_text() == "second"
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]


def test_an_unwritable_store_is_reported_unless_it_is_only_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "why_unwritable", lambda folder: f"{folder} is on fire")
    with pytest.raises(UserError, match=r"^the store .*/a is not writable \(.*/a is on fire\); choose another with"):
        Store(root=tmp_path / "a", cache="use").check_writable()
    Store(root=tmp_path / "a", cache="readonly").check_writable()


def sealed(store: Store, monkeypatch) -> Path:
    """A result whose maker was killed when it was sealed and had no name yet."""
    folder = store.begin(artifact())
    (folder / "result.txt").write_text("whole")
    (folder / "resume").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_publish", lambda *_: None)
        store.finish(artifact(), {"seconds": 1.0})
    assert store.find(artifact()) is None
    return folder


@pytest.mark.parametrize("resume", [True, False])
def test_a_result_sealed_by_a_killed_maker_is_named_by_the_next_lock(store, monkeypatch, resume):
    partial = sealed(store, monkeypatch)
    if not resume:
        (partial / "resume").rmdir()
    lock = store.lock(artifact())
    assert lock is not None
    lock.release()
    assert store.find(artifact()) is not None
    assert sorted(each.name for each in store.path(artifact()).iterdir()) == [MANIFEST, "result.txt"]
    assert not partial.exists()


def test_a_seal_that_something_was_written_under_since_is_none(store, monkeypatch):
    (sealed(store, monkeypatch) / "result.txt").write_text("half")
    lock = store.lock(artifact())
    assert lock is not None
    lock.release()
    assert store.find(artifact()) is None
    assert (store.partial(artifact()) / "result.txt").read_text() == "half"


def test_a_result_sealed_before_a_refresh_does_not_count_as_refreshed(store, monkeypatch):
    sealed(store, monkeypatch)
    monkeypatch.setattr(module, "SESSION_START", time.time() + 100)
    refresh = replace_cache(store, "refresh")
    lock = refresh.lock(artifact())
    assert lock is not None
    lock.release()
    assert refresh.find(artifact()) is None
    assert list(refresh.begin(artifact()).iterdir()) == []


def test_taking_a_lock_refreshes_the_file_systems_cache(store):
    make(store, artifact(version=2))
    folder = store.path(artifact()).parent
    os.utime(folder, (1e9, 1e9))
    lock = store.lock(artifact())
    assert lock is not None
    lock.release()
    assert folder.stat().st_mtime > 1e9


NO_LOCKS = (
    r"^the file system of the store .*/store has no file locks, which processes need to share it; mount it "
    r"with locks \(Lustre: flock, NFS: not nolock\), or choose another with store=FOLDER$"
)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_reported(store, monkeypatch, error):
    def unlocked(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", unlocked)
    with warnings.catch_warnings(), pytest.raises(UserError, match=NO_LOCKS):
        warnings.simplefilter("ignore")  # filelock says that it falls back
        store.lock(artifact())
    assert not list(store.root.glob("*/*.owner"))


def test_any_other_trouble_with_a_lock_goes_on_its_way(store, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr("fcntl.flock", broken)
    with pytest.raises(OSError, match="broken disk"):
        store.lock(artifact())
