from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from meow_lightning.errors import UserError
from meow_lightning.models import sources
from meow_lightning.models.sources import config_of, identity, locate, parse, pin_revision

COMMIT, LATER = "a" * 40, "b" * 40
FIRST_WORDS = r"^model\.target=me/mine is not in the cache \(.*/hub\) and the hub cannot be reached \("


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache; whoever asks the network breaks the test."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: pytest.fail("the network was asked"))
    monkeypatch.chdir(tmp_path)
    return folder


def answering(monkeypatch, answer: Any) -> list[dict]:
    """The hub says this commit, or raises this; every question is noted."""
    asked: list[dict] = []

    def model_info(_, repository: str, **words: Any) -> Any:
        asked.append({"repository": repository, **words})
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(sha=answer)

    monkeypatch.setattr(HfApi, "model_info", model_info)
    return asked


def refusal(status: int, text: str = "no\nmore words") -> HfHubHTTPError:
    response: Any = SimpleNamespace(headers={}, request=None, status_code=status)
    return HfHubHTTPError(text, response=response)


def fill(folder: Path, *, weights: bool = True, tokenizer: bool = True) -> Path:
    """The least that counts as a model: no weight in it, but whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    if weights:
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")
    return folder


def stored(cache: Path, commit: str, **parts: bool) -> Path:
    """A repository in the cache whose branch ``main`` is at a commit."""
    repository = cache / "models--me--mine"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return fill(repository / "snapshots" / commit, **parts)


def test_a_folder_comes_before_a_repository_of_its_name(tmp_path):
    fill(tmp_path / "me" / "mine")
    source = parse("model.target", "me/mine", words=())
    assert (source.path, source.repository, source.revision) == (tmp_path / "me" / "mine", "", None)
    assert str(source) == str(tmp_path / "me" / "mine")


def test_a_home_folder_is_written_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "mine")
    assert parse("model.target", "~/mine", words=()).path == tmp_path / "mine"


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("me/mine", "me/mine", None),
        (f"me/mine@{COMMIT}", "me/mine", COMMIT),
        ("me/phi-1.5_x@refs/pr/1", "me/phi-1.5_x", "refs/pr/1"),
    ],
)
def test_a_hub_id_with_and_without_revision(text, repository, revision):
    source = parse("model.target", text, words=())
    assert (source.path, source.repository, source.revision) == (None, repository, revision)
    assert str(source) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file", "=file is invalid: expected a folder, a GGUF file, a hub id .*, not another file$"),
        ("./my-modle", r"=\./my-modle does not exist: expected a folder, .*Did you mean my-model\?$"),
        ("/no/SmolLM2-135M-Instruct.Q4_1.gguf", r"=/no/Smol.* does not exist: .*; `make smollm2` fetches this file$"),
        ("gpt2", "=gpt2 is invalid: expected a folder"),
        ("publisht", r"=publisht is invalid: .*Did you mean published\?$"),
        ("me/mine@", "=me/mine@ is invalid"),
        ("a/b/c", "=a/b/c is invalid"),
        ("", "= is invalid: expected a folder"),
        (" ", "= is invalid: expected a folder"),
        ("~nobody-of-that-name/x", r"=~nobody-of-that-name/x is invalid \(.*home.*\): expected a folder"),
    ],
)  # fmt: skip
def test_an_invalid_source_is_reported_with_the_nearest(tmp_path, text, said):
    (tmp_path / "file").write_text("")
    (tmp_path / "my-model").mkdir()
    with pytest.raises(UserError, match=f"^model.target{said}"):
        parse("model.target", text, words=("published", "null"))


def digest(folder: Path, memory: Path) -> str:
    return identity(parse("model.target", str(folder), words=()), memory=memory)


def test_a_folder_counts_by_its_content_not_by_its_path(tmp_path):
    memory = tmp_path / "none" / "digests"
    one = digest(fill(tmp_path / "a"), memory)
    (tmp_path / "a" / "README.md").write_text("x")
    (tmp_path / "a" / "modeling.py").write_text("x")
    (tmp_path / "a" / "pytorch_model.bin").write_text("x")
    assert len(one) == 16
    assert digest(tmp_path / "a", memory) == digest(fill(tmp_path / "b"), memory) == one
    (tmp_path / "b" / "config.json").write_text("[]")
    assert digest(tmp_path / "b", memory) != one
    (tmp_path / "a" / "config.json").rename(tmp_path / "a" / "other.json")
    assert digest(tmp_path / "a", memory) != one


def test_the_digest_is_that_of_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    line = f"config.json {hashlib.sha256(b'{}').hexdigest()}\n"
    assert digest(tmp_path / "a", tmp_path / "m") == hashlib.sha256(line.encode()).hexdigest()[:16]


def test_digests_are_remembered_until_size_or_time_change(tmp_path, monkeypatch):
    folder, memory, read = fill(tmp_path / "a"), tmp_path / "digests", []
    real = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: read.append(Path(file.name).name) or real(file, kind)
    )
    one = digest(folder, memory)
    assert sorted(read) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert digest(folder, memory) == one
    assert len(read) == 3
    (folder / "config.json").write_text("[]")  # another time, the same size
    os.utime(folder / "config.json", ns=(1, 1))
    two = digest(folder, memory)
    assert read[3:] == ["config.json"]
    (folder / "config.json").write_text("[1]")  # another size, the same time
    os.utime(folder / "config.json", ns=(1, 1))
    three = digest(folder, memory)
    assert read[3:] == ["config.json", "config.json"]
    assert len({one, two, three}) == 3
    assert [path.name for path in tmp_path.glob("digests*")] == ["digests"]


@pytest.mark.parametrize("put", [True, False])
def test_a_file_of_the_same_size_and_time_is_read_anew(tmp_path, put):
    folder, memory = fill(tmp_path / "a"), tmp_path / "digests"
    one, path = digest(folder, memory), folder / "config.json"
    state, content = path.stat(), path.read_text()
    other = tmp_path / "other" if put else path
    other.write_text(content.swapcase() if content.swapcase() != content else "[]")
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert digest(folder, memory) != one


def test_a_memory_that_cannot_be_written_costs_time_alone(tmp_path, monkeypatch):
    folder, memory = fill(tmp_path / "a"), tmp_path / "digests"

    def full(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(sources, "write_json", full)
    assert digest(folder, memory) == digest(folder, memory)
    assert not memory.exists()


@pytest.mark.parametrize("text", ['{"cut', "[]", "\udce4", '{"PATH": 5}', '{"PATH": []}', '{"PATH": ["x"]}'])
def test_a_damaged_memory_is_read_anew(tmp_path, text):
    folder, memory = fill(tmp_path / "a"), tmp_path / "digests"
    one = digest(folder, memory)
    memory.write_text(text.replace("PATH", str(folder / "config.json")), errors="surrogateescape", encoding="utf-8")
    assert digest(folder, memory) == one
    assert len(json.loads(memory.read_text())) == 3


def test_a_plan_makes_no_folder_for_the_memory(tmp_path):
    digest(fill(tmp_path / "a"), tmp_path / "store" / "digests")
    assert not (tmp_path / "store").exists()


def test_a_file_that_cannot_be_read_is_reported(tmp_path, monkeypatch):
    folder = fill(tmp_path / "a")
    real = Path.open

    def closed(path: Path, *words: Any, **more: Any) -> Any:
        if path.name == "model.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *words, **more)

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(UserError, match=r"^model.target: .*/a/model.safetensors cannot be read \(Permission denied\)"):
        digest(folder, tmp_path / "m")


def test_a_pinned_commit_needs_no_network(tmp_path):
    source = parse("model.target", f"me/mine@{COMMIT}", words=())
    assert identity(source, memory=tmp_path / "m") == f"me/mine@{COMMIT}"
    assert pin_revision(source) == source


@pytest.mark.parametrize(("text", "branch"), [("me/mine", "main"), ("me/mine@dev", "dev")])
def test_a_branch_is_resolved_within_the_time_limit(tmp_path, monkeypatch, text, branch):
    asked = answering(monkeypatch, COMMIT)
    assert identity(parse("model.target", text, words=()), memory=tmp_path / "m") == f"me/mine@{COMMIT}"
    assert asked == [{"repository": "me/mine", "revision": branch, "timeout": 10.0}]
    assert str(pin_revision(parse("model.target", text, words=()))) == f"me/mine@{COMMIT}"


@pytest.mark.parametrize("error", [OSError("no route"), TimeoutError(), refusal(503), refusal(429)])
def test_offline_a_branch_resolves_to_the_cached_commit(tmp_path, cache, monkeypatch, error):
    stored(cache, COMMIT)
    answering(monkeypatch, error)
    assert identity(parse("model.target", "me/mine", words=()), memory=tmp_path / "m") == f"me/mine@{COMMIT}"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("no route\nto anywhere"), r"no route\)"), (TimeoutError(), r"TimeoutError\)"),
        (refusal(503, "out of order"), r"out of order\)"),
    ],
)  # fmt: skip
def test_neither_hub_nor_cache_is_one_line_with_all_remedies(tmp_path, monkeypatch, error, reason):
    answering(monkeypatch, error)
    with pytest.raises(UserError, match=FIRST_WORDS + reason) as told:
        identity(parse("model.target", "me/mine", words=()), memory=tmp_path / "m")
    assert str(told.value).endswith(
        "; connect once, download the folder yourself and set model.target=FOLDER, or set HF_HOME to another cache"
    )
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, r"does not exist or needs a login \(hf auth login, or HF_TOKEN\)"),
        (403, r"is gated: accept its terms on its page and log in \(hf auth login, or HF_TOKEN\)"),
        (404, r"is not on the hub: check name and revision"), (400, r"is refused by the hub \(no\)"),
    ],
)  # fmt: skip
def test_a_refusal_of_the_hub_is_reported_even_if_cached(tmp_path, cache, monkeypatch, status, said):
    stored(cache, COMMIT)
    answering(monkeypatch, refusal(status))
    text = rf"^model.base=me/mine {said}; or download the folder yourself and set model.base=FOLDER$"
    with pytest.raises(UserError, match=text):
        identity(parse("model.base", "me/mine", words=()), memory=tmp_path / "m")


def test_a_misspelt_folder_that_looks_like_a_hub_id_gets_a_suggestion(tmp_path, monkeypatch):
    fill(tmp_path / "models" / "mine")
    answering(monkeypatch, refusal(404))
    with pytest.raises(UserError, match=r"is not on the hub.* model.target=FOLDER. Did you mean models/mine\?$"):
        identity(parse("model.target", "models/mien", words=()), memory=tmp_path / "m")


def test_a_folder_is_where_it_is(tmp_path):
    source = parse("model.target", str(fill(tmp_path / "a")), words=())
    assert locate(source, weights=True, fetch=False) == config_of(source) == tmp_path / "a"


def test_complete_cached_models_need_no_network(cache):
    folder = stored(cache, COMMIT)
    for text in ("me/mine", f"me/mine@{COMMIT}"):
        source = parse("model.target", text, words=())
        assert locate(source, weights=True, fetch=True) == locate(source, weights=False, fetch=False) == folder
        assert config_of(source) == folder


@pytest.mark.parametrize(
    ("weights", "parts"), [(True, {"weights": False}), (False, {"tokenizer": False}), (True, None), (False, None)]
)
def test_missing_files_are_not_downloaded_without_permission(cache, weights, parts):
    if parts is not None:
        stored(cache, COMMIT, **parts)
    source = parse("model.target", f"me/mine@{COMMIT}", words=())
    text = rf"^model.target=me/mine@{COMMIT} is incomplete in the cache; run without plan=true to download it$"
    with pytest.raises(UserError, match=text):
        locate(source, weights=weights, fetch=False)


@pytest.mark.parametrize("weights", [True, False])
def test_missing_files_are_downloaded(cache, monkeypatch, weights):
    folder = stored(cache, COMMIT, weights=False, tokenizer=False)
    asked, real, words = answering(monkeypatch, COMMIT), huggingface_hub.snapshot_download, []

    def download(repository: str, **more: Any) -> str:
        if more.get("local_files_only"):
            return real(repository, **more)
        words.append(more)
        return str(fill(folder))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate(parse("model.target", "me/mine@main", words=()), weights=weights, fetch=True) == folder
    assert len(asked) == 1
    assert [more["revision"] for more in words] == ["main"]
    wanted = {pattern for pattern in words[0]["allow_patterns"] if "safetensors" in pattern}
    assert wanted == ({"*.safetensors"} if weights else set())
    assert not {"*.bin", "*.py", "*"} & set(words[0]["allow_patterns"])
    assert words[0]["ignore_patterns"] == "*/*"


@pytest.mark.parametrize("find", [lambda source: locate(source, weights=True, fetch=True), config_of])
def test_an_unavailable_model_is_reported_before_the_download(cache, monkeypatch, find):
    stored(cache, COMMIT, weights=False)
    (cache / "models--me--mine" / "snapshots" / COMMIT / "config.json").unlink()
    source = parse("model.target", "me/mine", words=())
    answering(monkeypatch, OSError("no route"))
    with pytest.raises(UserError, match=FIRST_WORDS + r"no route\)"):
        find(source)
    answering(monkeypatch, refusal(403))
    with pytest.raises(UserError, match=r"^model.target=me/mine is gated: accept its terms on its page"):
        find(source)


def test_a_full_disk_is_not_called_an_unreachable_hub(monkeypatch):
    answering(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    text = r"^model.target=me/mine cannot be written into the cache \(.*/hub: .*No space left on device\); fix that, or"
    with pytest.raises(UserError, match=text):
        locate(parse("model.target", "me/mine", words=()), weights=True, fetch=True)


def test_a_missing_config_is_downloaded_alone(cache, monkeypatch):
    answering(monkeypatch, COMMIT)
    real = huggingface_hub.hf_hub_download

    def download(repository: str, name: str, **more: Any) -> str:
        return real(repository, name, **more) if more.get("local_files_only") else str(cache / repository / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert config_of(parse("model.target", "me/mine", words=())) == cache / "me/mine"


def test_a_branch_that_moves_on_is_not_served_from_what_the_cache_had(cache, monkeypatch):
    old = stored(cache, COMMIT)
    answering(monkeypatch, LATER)
    branch = parse("model.target", "me/mine", words=())
    assert locate(branch, weights=True, fetch=False) == old
    with pytest.raises(UserError, match=rf"^model.target=me/mine@{LATER} is incomplete in the cache"):
        locate(pin_revision(branch), weights=True, fetch=False)
