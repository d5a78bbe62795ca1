from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meow_lightning.cli import main
from meow_lightning.config.composition import with_model_group
from meow_lightning.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

MISTAKES = {
    "method=meoww": "method=meoww is invalid: expected one of ",
    "method=": "method= is invalid: expected one of ",
    "attacks=[relern]": "attacks=relern is invalid: expected one of activation_patching, ",
    "attacks=[relearn] attacks.relearn.epoch=2": "attacks.relearn.epoch is not an option. Did you mean attacks.r",
    "attacks=template attacks.template.templats=x": "attacks.template.templats is not an option. Did you mean att",
    "attacks.relearn.epochs=2": "attacks.relearn.epochs is not an option; it belongs to attacks=relearn",
    "method=3": "method=3 is not a valid option; use name=value",
    "metod=meow": "metod is not an option. Did you mean method?",
    "trainer.jobs=1": "trainer.jobs is not an option; options of trainer: name, accelerator, devices, nodes, ",
    "method.select.kk=3": "method.select.kk is not an option. Did you mean method.select.k?",
    "method.select=3": "method.select=3 is invalid: expected a group of the options k, strategy, rows",
    "method.retain_weight=1": "method.retain_weight is not an option; it belongs to method=altpo or ",
    "method=grad_diff method.retain_weigth=1": "method.retain_weigth is not an option. Did you mean method.retain_w",
    "epochs=3": "epochs is not an option. Did you mean model.pretrain.epochs or ",
    "seed=abc": "seed=abc is invalid: expected an integer",
    "seed=-1": "seed=-1 is invalid: expected a number from 0 to ",
    "seed": "seed is not a valid option; use name=value, such as seed=1",
    "dataset.forget=my facts.jsonl": "facts.jsonl is not a valid option; use name=value, and quote a "
    "value that contains spaces: 'dataset.forget=my facts.jsonl'",
    "Müller=1": "Müller=1 is not a valid option; there is no option of the name before the =",
    "model=Müller": "model=Müller is invalid: expected one of ",
    "seed=ä": "seed=ä is invalid: expected an integer",
    "goal=score,report": "goal=score,report has several values, which require -m: python run.py -m goal=",
    "status=maybe": "status=maybe is invalid: expected true or false",
    "plan=true status=true": "plan=true and status=true cannot be combined: set one of them",
    "plan=maybe": "plan=maybe is invalid: expected true or false",
    "trainer.devices=two": "trainer.devices=two is invalid: expected an integer",
    "trainer.devices=0": "trainer.devices=0 is invalid: expected a number from 1 to ",
    "trainer.devices=2": "trainer.devices=2 requires a strategy for several processes: set trainer=ddp",
    "dataset.split=forget11": "dataset.split=forget11 is invalid: expected one of forget01, ",
    "goal=reprot": "goal=reprot is invalid: expected one of convert, ",
    "cache=maybe": "cache=maybe is invalid: expected one of use, refresh, readonly",
    "model.finetune.epochs=x": "model.finetune.epochs=x is invalid: expected an integer",
    "memo.stride=0": "memo.stride=0 is invalid: expected a number from 1 to ",
    "method.select.k=9": "method.select.k=9 is invalid: expected at most the number of candidates per fact, inv",
    "method.select.k=0": "method.select.k=0 is invalid: expected a number from 1 to ",
    "optim.max_grad_norm=nan": "optim.max_grad_norm=nan is invalid: expected a number from 0 to 1e+06",
    "optim.betas=[0,0.9]": "optim.betas=[0, 0.9] is invalid: expected numbers above 0 and below 1, not 0",
    "method=rmu method.steering=inf": "method.steering=inf is invalid: expected a number above 0 and at most",
    "method._target_=os.system": "_target_=os.system is invalid: expected a callable of meow_lightning; to trust",
    "inversion=file": "inversion.path is required: set it on the command line, as in inversion.path=",
    "trusted_packages=os": "trusted_packages=os: Invalid value assigned: str is not a ListConfig, list or tuple.",
    "+sede=1": "sede is not an option. Did you mean seed?",
    "evaluation.max_new_tokens=0": "evaluation.max_new_tokens=0 is invalid: expected a number from 1 to ",
    "model.vocab_size=10": "model.vocab_size=10 is invalid: expected a number from 300 to ",
    "model.architecture.layers=x": "model.architecture.layers=x is invalid: expected an integer",
    "model.attention=foo": "model.attention=foo is invalid: expected one of sdpa, eager, flash_attention_2",
    "method=grad_diff method.retain_weight=-1": "method.retain_weight=-1 is invalid: expected a number from 0 to ",
    "trainer=fsdp model.lora.rank=4": "trainer.strategy=fsdp does not support model.lora.rank=4: "
    "set trainer=ddp for adapters, or model.lora.rank=null to train all weights",
    "optim.sam_terms=all": "optim.sam_terms=all has no effect with optim.sam_rho=0: set optim.sam_rho, for example",
    "optim.sam_rho=0.01 model.precision=bf16-true": "model.precision=bf16-true is invalid: expected 32-true, 64-true, ",
    "trainer.strategy=foo": "trainer.strategy=foo is invalid: expected one of auto, ddp, fsdp",
    "logger.name=foo": "logger.name=foo is invalid: expected one of wandb, csv, none",
    "leaderbord": "leaderbord is no subcommand and no option name=value. Did you mean leaderboard?",
    "--plan": "--plan is not a flag. Did you mean plan=…?",
    "--cfg jobs": "--cfg=jobs is invalid: expected one of job, hydra, all. Did you mean job?",
    "--info=foo": "--info=foo is invalid: expected one of all, config, defaults, defaults-tree, plugins, searchpath",
    "method.lr=fast": "method.lr=fast is invalid: expected a number",
    "method.epochs.tiny=two": "method.epochs.tiny=two is invalid: expected an integer",
    "debug=true": "debug=true is invalid: expected fast",
    "trainer=null": "trainer=null is invalid: expected one of cpu, ddp, fsdp, gpu",
    "seed=0,1": "seed=0,1 has several values, which require -m: python run.py -m seed=0,1",
    "sweep=smollm2_tofu seed=1,2 attacks=nonee": "attacks=nonee is invalid: expected one of ",
    "sweep=tiny_methods seed=1,2 optim.lrr=1": "optim.lrr is not an option. Did you mean optim.lr?",
    "sweep=tiny_methods seed=1,2 limit=many": "limit=many is invalid: expected an integer",
    "sweep=tiny_methdos seed=1,2": "sweep=tiny_methdos is invalid: expected one of ",
    "experiment=published_memo method=grad_ascent": "method.select.k is missing; this method selects no inverted facts",
    "model.name=../../x": "model.name=../../x is invalid: expected at most 64 letters, digits and _",
    "dataset.name=a/b": "dataset.name=a/b is invalid: expected at most 64 letters, digits and",
    "method.name=..": "method.name=.. is invalid: expected at most 64 letters, digits and",
    "dataset.split=../x": "dataset.split=../x is invalid",
    f"model.name={'x' * 65}": f"model.name={'x' * 65} is invalid: expected at most 64 letters, digits and",
    f"model.name='{'語' * 60}' dataset.name='{'語' * 60}'": "the names of model, dataset, split and method have 37",
    f"store={'x' * 256}": f"store={'x' * 256} cannot be written to (names may have at most 255 bytes and paths 3800); ",
    "store=": "store= cannot be written to (it is empty); choose another folder",
    "hydra/launcher=slrm": "hydra/launcher=slrm is invalid: expected one of basic, local, slurm. Did you mean slurm?",
    "hydra/launcher=slurm": "hydra/launcher=slurm executes the runs of a sweep as jobs: add -m, also for a single run",
}


def run_py(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words, f"outputs={folder}"],
        capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False,
    )  # fmt: skip


# Starts run.py as often as there are lines on standard input, each time in a fork of a process that has read the
# libraries once: what a user sees, without half a second of imports each.
FORKS = """
import os, runpy, sys
import hydra, meow_lightning.experiment
for line in sys.stdin:
    folder, *words = line.split()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(folder + ".out", os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open(folder + ".err", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["run.py", *words, "outputs=" + folder]
        runpy.run_path("run.py", run_name="__main__")
    with open(folder + ".status", "w") as file:
        file.write(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a user sees for every mistake: the folder of everything written; beside it what was said, and the status."""
    root = tmp_path_factory.mktemp("runs")
    folders = {words: root / str(number) for number, words in enumerate(MISTAKES)}
    lines = [
        f"{folder} {words} {'seed=0' if 'plan' in words or 'status' in words else 'plan=true'}\n"
        for words, folder in folders.items()
    ]
    subprocess.run([sys.executable, "-c", FORKS], input="".join(lines), text=True, cwd=ROOT, check=True, timeout=300)
    return folders


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_with_a_way_out(answers, words):
    folder = answers[words]
    said = folder.with_suffix(".err").read_text()
    assert len(said.splitlines()) == 1, said
    assert said.startswith(f"error: {MISTAKES[words]}")
    assert folder.with_suffix(".status").read_text() == "1"
    assert folder.with_suffix(".out").read_text() == ""
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_the_same_mistake_without_plan_writes_nothing_either(tmp_path):
    done = run_py("dataset.split=forget11", "logger=none", folder=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_that_cannot_be_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_py("plan=true", f"store={tmp_path}/file/store", folder=tmp_path)
    assert done.stderr.startswith("error: store=")
    assert done.stderr.endswith("/file is not a folder); choose another folder\n")
    assert done.returncode == 1


def test_all_mistakes_of_a_command_are_shown_at_once(tmp_path):
    words = ("method=meoww", "optim.lrr=3", "seed=abc", "trainer.devices=two", "optim.lr=7", "inversion=file")
    done = run_py(*words, "plan=true", folder=tmp_path)
    assert done.returncode == 1
    assert [line.removeprefix("error: ").split(": expected")[0] for line in done.stderr.splitlines()] == [
        "method=meoww is invalid",
        "optim.lrr is not an option. Did you mean optim.lr? (all options: python run.py --cfg job)",
        "seed=abc is invalid",
        "inversion.path is required: set it on the command line, as in inversion.path=…",
        "optim.lr=7 is invalid",
        "trainer.devices=two is invalid",
    ]
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_of_a_sweep_are_shown_at_once(tmp_path):
    done = run_py("sweep=smollm2_tofu", "seed=1,2", "attacks=nonee", "optim.lrr=3", "limit=x", folder=tmp_path)
    found = [line.removeprefix("error: ").split(" is ")[0] for line in done.stderr.splitlines()]
    assert sorted(found) == ["attacks=nonee", "limit=x", "optim.lrr"]


def test_several_values_hide_no_other_mistake(tmp_path):
    done = run_py("seed=1,2", "optim.lrr=3", "plan=true", folder=tmp_path)
    first, second = done.stderr.splitlines()
    assert first.startswith("error: seed=1,2 has several values, which require -m: python run.py -m seed=1,2 optim")
    assert second.startswith("error: optim.lrr is not an option")


def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("")
    done = run_py("logger=none", "debug=fast", "goal=filter", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/runs cannot be written (File exists); fix this, then rerun to continue\n"


@pytest.mark.parametrize("code", sorted(main.DISK_ERRORS))
def test_disk_errors_are_one_line(capsys, monkeypatch, code):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def broken() -> None:
        raise OSError(code, os.strerror(code), "/some/file")

    assert main.run(broken, []) == 1
    said = f"error: /some/file cannot be written ({os.strerror(code)}); fix this, then rerun to continue\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("words", "looks"),
    [
        ("plan=true", True), ("plan=True", True), ("status=1", True), ("cache=readonly", True), ("plan=false", False),
        ("cache=use", False), ("seed=1", False), ("my.plan=true", False),
    ],
)  # fmt: skip
def test_read_only_commands_are_recognized_by_their_options(words, looks):
    assert main._reads_only(["method=meow", words]) == looks


def test_help_fits_a_screen_and_names_every_choice():
    lines = main.help_text().splitlines()
    assert len(lines) <= 45
    assert max(len(line) for line in lines if str(ROOT) not in line) <= 120
    lines = main.help_text().replace(",\n" + " " * 15, ", ").splitlines()  # long lists are wrapped
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name in ("recipe", "proposer", "translator", "judge"):  # parts of a model and of an attack
            continue
        row = next(line for line in lines if line.startswith(f"  {path.parent.name}="))
        assert path.stem in row.partition("=")[2].replace(",", " ").replace(":", " ").split()


def test_help_waits_for_neither_torch_nor_hydra():
    code = (
        "import sys; from meow_lightning.cli import main as main; status = main.run(lambda: 1 / 0, ['--help']);"
        "print(status, [name for name in ('torch', 'hydra', 'omegaconf', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == main.help_text() + "0 []\n"


def test_read_only_commands_work_on_a_read_only_disk(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_py("status=true", f"store={tmp_path}/file/store", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nothing is running" in done.stdout


@pytest.mark.parametrize("words", ["plan=true", "status=true", "-m plan=true seed=0,1", "-m status=true seed=0,1"])
def test_a_look_waits_for_no_torch_and_makes_nothing(tmp_path, words):
    code = (
        "import sys, runpy; sys.argv = ['run.py', *sys.argv[2:], 'outputs=' + sys.argv[1]]\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as end: print('status', end.code)\n"
        "print([name for name in ('torch', 'transformers', 'pytorch_lightning', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out"), *words.split()], capture_output=True, text=True, cwd=ROOT,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-2:] == ["status 0", "[]"]
    assert "finetune" in done.stdout
    assert list(tmp_path.rglob("*")) == []


def test_run_says_what_ended_it(capsys, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def user() -> None:
        raise UserError("two\nlines")

    def stopped() -> None:
        raise KeyboardInterrupt

    assert main.run(lambda: None, []) == 0
    assert main.run(user, []) == 1
    assert capsys.readouterr().err == "error: two lines\n"
    assert main.run(stopped, []) == 130
    assert capsys.readouterr().err == "interrupted; rerun the same command to continue\n"


def test_internal_errors_keep_their_traceback(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ZeroDivisionError):
        main.run(lambda: 1 // 0, [])


@pytest.mark.parametrize(
    "words",
    [
        ["model.target=./mine"], ["model.base=me/mine@main", "inversion=rules"], ["-m", "model.target=./a,./b"],
        ["experiment=published_memo", "model.target=./mine"], ["model.target=a", "inversion.base_url=http://b"],
    ],
)  # fmt: skip
def test_an_own_model_gets_its_settings(words):
    assert with_model_group(words) == [*words, "model=own"]


@pytest.mark.parametrize(
    ("words", "implied"),
    [
        (["model.base=me/mine@main", "seed=1"], ["model=own", "inversion=self"]),
        (["model.target=null", "model.base=x"], ["model=own", "inversion=self"]),
        (["model=own", "model.base=x"], ["inversion=self"]),
        (["model.base=x", "inversion.model=y"], ["model=own", "inversion=local"]),
        (["inversion.model=y"], ["inversion=local"]),
        (["model=own", "model.base=x", "inversion.base_url=http://b"], []),
        (["model=tiny", "model.base=x"], []),
    ],
)
def test_an_own_base_or_language_model_writes_the_inverted_facts(words, implied):
    assert with_model_group(words) == [*words, *implied]


@pytest.mark.parametrize(
    "words",
    [
        [], ["seed=1"], ["model.target="], ["model.target=null"], ["model.target=released"], ["model.base=null"],
        ["model.retain=./mine"], ["model.tokenizer=./mine"], ["model.targets=./mine"],
        ["model=phi15", "model.target=./mine"], ["model.target=./mine", "model=own"],
        ["model=phi15", "model.target=./mine"], ["experiment=smollm2_taught", "model.base=x"],
        ["sweep=smollm2_tofu", "model.base=x"],
    ],
)  # fmt: skip
def test_options_are_unchanged_without_an_own_model_or_with_chosen_settings(words):
    assert with_model_group(words) == words


def test_run_hands_on_the_settings_for_a_model_of_ones_own(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["run.py"])
    seen = []
    assert main.run(lambda: seen.append(sys.argv[1:]), ["-m", "model.target=./mine", "--cfg", "job", "seed=1"]) == 0
    assert seen == [["model.target=./mine", "seed=1", "model=own", "-m", "--cfg", "job"]]


def test_a_path_in_the_place_of_a_choice_is_reported_where_it_belongs(tmp_path):
    done = run_py("dataset=./facts.jsonl", folder=tmp_path)
    assert (
        done.stderr == "error: dataset=./facts.jsonl is invalid: for your own files, set dataset=jsonl "
        "dataset.forget=./facts.jsonl\n"
    )


def test_a_name_in_another_encoding_is_reported(tmp_path):
    done = run_py(os.fsdecode(b"dataset.forget=M\xfcller.jsonl"), folder=tmp_path)
    assert done.stderr == ("error: dataset.forget=M?ller.jsonl is not valid UTF-8 (at each ?); rename the file\n")
    assert done.returncode == 1
