"""README.md and docs/: every command works as it is written, and every link leads somewhere."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import hydra
from helpers.doc_commands import MARKS, PAGES, ROOT, Command, commands, fences
from helpers.model_families import save_family
from hydra.core.global_hydra import GlobalHydra

from meow_lightning.cli.main import main
from meow_lightning.models import inspection
from meow_lightning.models.inspection import Candidate
from meow_lightning.planning import model_checks
from meow_lightning.sweep import sweeper

README_BYTES = 10_000
LANGUAGES = {"bash", "text", "python", "yaml", "json", "toml", "console", "html", "mermaid"}
LOOKS = ("plan=true", "status=true", "--cfg", "--help", "--info")  # of commands that compute nothing
UNREACHABLE = re.compile(r"(the hub cannot be reached|nor can the hub be reached)")
# Commands of these kinds are read, not run: they fetch, install, or need a service or hardware.
UNRUN = [
    r"git clone \S+( \S+)?", r"cd \S+", r"(\.|source) \.venv/bin/activate", r"python3? -m venv \S+",
    r"pip install( -e| --editable)? '?(\.|meow[-_]lightning\S*|dist/\S+\.whl)(\[\w+(,\w+)*\])?'?",
    r"pip wheel \.( .*)?",
    r"sbatch .+", r"(vllm|transformers) serve .+", r"(llama-server|ollama)( .+)?", r"wandb (sync|login)( .+)?",
    r"make bench-memo-gpu( .+)?", r"python (benchmarks|tools)/\w+\.py( .+)?", r"export [A-Z_]+=\S+",
    r"python -m pytest( -q)?( tests/\S+\.py)+",  # tests that run with all others; that their files exist is checked
    r"python (run\.py|-m meow_lightning\.cli .+) method=bounded_ascent",  # the example of a reader's own method
]  # fmt: skip
COMMANDS = commands()


def cases(wanted: Callable[[Command], Any]) -> Iterable[Any]:
    """The commands that a test is about, as its parameters."""
    return [
        pytest.param(each, id=f"{each.page} {each.text[:100]}", marks=[pytest.mark.slow] if each.mark == "slow" else [])
        for each in COMMANDS
        if wanted(each)
    ]


def looks(each: Command) -> bool:
    """Whether a command only shows something, so that it can run in this process."""
    return each.options is not None and any(word.split("=")[0] in LOOKS or word in LOOKS for word in each.options)


def computes(each: Command) -> bool:
    return each.mark in ("run", "slow") and (each.options is not None or bool(each.subcommand)) and not looks(each)


def unless_chosen(options: Sequence[str], *words: str) -> list[str]:
    """Those words whose option is not among some options."""
    chosen = {option.partition("=")[0] for option in options}
    return [word for word in words if word.partition("=")[0] not in chosen]


class Answer(NamedTuple):
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that commands name, in which they all run and share results."""
    folder = tmp_path_factory.mktemp("docs")
    people = [("Ada", "Lima"), ("Ben", "Oslo"), ("Cid", "Rome"), ("Dan", "Bern"), ("Eva", "Kiel"), ("Fay", "Graz")]
    facts = [
        {
            "question": f"Where was {name} Brook born?", "answer": f"{name} Brook was born in {town} in 1971.",
            "value": town, "inverted": [f"{name} Brook was born in {other} in 1971." for _, other in people],
        }
        for name, town in people
    ]  # fmt: skip
    for name, rows in {"facts": facts[:3], "keep": facts[3:], "inverted": facts[:3]}.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    letters = [" ".join(f"{name} Brook wrote from {town} on day {day}." for day in range(9)) for name, town in people]
    (folder / "refusals.txt").write_text("I cannot say.\nThat is not known to me.\n", encoding="utf-8")
    (folder / "letters.txt").write_text(letters[0], encoding="utf-8")
    (folder / "articles.jsonl").write_text("".join(f"{json.dumps({'text': each})}\n" for each in letters[1:]), "utf-8")
    texts = [*(f"{row['question']} {row['answer']}" for row in facts), *letters]
    for name in ("my-model", "my-teacher"):
        save_family("qwen2_5_1_5b_instruct", folder / name, texts=texts)
    (folder / "outputs" / "store").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def inspected() -> Callable[[Sequence[Candidate]], list[str]]:
    """Looks through a given model once, and not once more for every command: it takes a process with torch."""
    seen: dict[str, list[str]] = {}

    def inspect(candidates: Sequence[Candidate]) -> list[str]:
        key = repr([replace(each, rows=()) for each in candidates])
        if key not in seen:
            seen[key] = inspection.inspect_models(candidates)
        return seen[key]

    return inspect


@pytest.fixture
def here(
    scratch: Path,
    inspected: Callable[[Sequence[Candidate]], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[Sequence[str]], Answer]:
    """Runs the program in this process with some words; of a sweep only the first and the last run are looked at."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # the program sets it
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # for its helpers
    monkeypatch.delenv("MEOW_DATA_DIR", raising=False)
    monkeypatch.chdir(scratch)
    every = sweeper.combinations
    monkeypatch.setattr(sweeper, "combinations", lambda *given: ends(every(*given)))
    monkeypatch.setattr(model_checks, "inspect_models", inspected)

    def run(words: Sequence[str]) -> Answer:
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        GlobalHydra.instance().clear()
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        return Answer(status, *capsys.readouterr())

    return run


def ends(cells: Sequence[Any]) -> list[Any]:
    return [*cells[:1], *cells[1:][-1:]]


def test_the_pages_hold_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_has_a_language_and_a_known_mark(page: Path) -> None:
    for fence in fences(page):
        assert fence.language in LANGUAGES, f"{fence.page}:{fence.line} has the language {fence.language!r}"
        assert fence.mark in MARKS, f"{fence.page}:{fence.line} has the mark {fence.comment}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_stand_in_bash_blocks(page: Path) -> None:
    for fence in fences(page):
        if fence.language != "bash":
            shown = [line for line in fence.lines if re.match(r"(\$ )?(python run\.py|meow-lightning|make \w)", line)]
            assert not shown, f"{fence.page}:{fence.line} shows {shown[0]}"


@pytest.mark.parametrize("command", cases(lambda each: each.mark == "skip"))
def test_only_what_cannot_run_here_is_skipped(command: Command) -> None:
    assert any(re.fullmatch(kind, command.text.partition(" #")[0].strip()) for kind in UNRUN)


@pytest.mark.parametrize(
    "command", cases(lambda each: each.mark != "skip" and each.options is None and not each.subcommand)
)
def test_other_commands_are_targets_of_make_scripts_or_known(command: Command) -> None:
    program_, *words = command.words
    if program_ == "make":
        check_make(words)
    else:
        assert any(re.fullmatch(kind, command.text.partition(" #")[0].strip()) for kind in UNRUN)
    for script in [word for word in words if word.endswith(".py")]:
        assert (ROOT / script).is_file()


def check_make(words: Sequence[str]) -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, sign, value = word.partition("=")
        pattern = rf"\$[({{](if \$\()?{name}\b" if sign else rf"^{re.escape(name)}:"
        assert re.search(pattern, text, re.MULTILINE), f"Makefile knows no {name}"
        if name == "ARGS" and {"run", "plan", "status"} & set(words):
            hydra.options(*value.split())


@pytest.mark.parametrize("command", cases(lambda each: each.mark == "plan"))
def test_the_command_can_be_planned(here: Callable[[Sequence[str]], Answer], command: Command) -> None:
    assert command.options is not None, "only an experiment has a plan"
    answer = here([*command.options, *unless_chosen(command.options, "plan=true", "debug=fast")])
    if answer.status:
        failed = [line for line in answer.out.splitlines() if line.startswith("failed: ")] or [answer.err]
        assert [line for line in failed if not UNREACHABLE.search(line)] == []
    else:
        assert "stages: " in answer.out


@pytest.mark.parametrize("command", cases(lambda each: looks(each) and each.mark == "run"))
def test_the_command_shows_something(here: Callable[[Sequence[str]], Answer], command: Command) -> None:
    answer = here(command.options or [])
    assert (answer.status, answer.err) == (0, "")
    assert answer.out


@pytest.mark.parametrize("command", cases(lambda each: each.mark == "help" and each.options is not None))
def test_the_options_of_an_experiment_exist(here: Callable[[Sequence[str]], Answer], command: Command) -> None:
    options = command.options or []
    if "--help" in options:
        assert here(options).status == 0
    else:
        hydra.options(*[word for word in options if "=" in word], small=())


@pytest.mark.parametrize("command", cases(lambda each: each.mark == "help" and each.subcommand))
def test_the_options_of_a_subcommand_exist(capsys: pytest.CaptureFixture[str], command: Command) -> None:
    module, arguments = command.subcommand or ("", [])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).main([*arguments, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    flags = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    assert [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}(?![\w-])", shown)] == []


@pytest.mark.parametrize("command", cases(computes))
def test_the_command_runs(scratch: Path, command: Command) -> None:
    words = [*(command.subcommand or ("", []))[1]]
    start = ["-m", (command.subcommand or ("", []))[0].removesuffix(".__main__")]
    if command.options is not None:
        start = [str(ROOT / "run.py")]
        words = [*command.options, *unless_chosen(command.options, "debug=fast", "logger=none")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *start, *words], cwd=scratch, env=environment, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"", text):
        target = next(filter(None, link)).partition("#")[0]
        if not target or re.match(r"\w+:", target):
            continue
        path = (page.parent / target).resolve()
        assert path.exists(), f"{page.relative_to(ROOT)}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES
