"""The command line around Hydra: the help screen, and every error as one line with the nearest valid option."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from meow_lightning.cli import completion
from meow_lightning.cli.flags import MULTIRUN, OPTIONS, split_flags
from meow_lightning.config.composition import with_model_group
from meow_lightning.config.files import CONF
from meow_lightning.config.hydra_errors import (
    GROUPS,
    OPTIONAL,
    choices,
    composition_mistakes,
    summarize_error,
    sweep_mistakes,
)
from meow_lightning.config.program import program
from meow_lightning.config.quoting import quote_value
from meow_lightning.errors import UserError, check_choice, group_errors, mistakes_of, nearest
from meow_lightning.store.folders import why_impossible, why_unwritable

T = TypeVar("T")
DISK_ERRORS = {  # file errors with causes outside the program
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR,
    errno.ELOOP, errno.ENAMETOOLONG, errno.EIO, errno.ESTALE,
}  # fmt: skip
SUBCOMMANDS = {
    "memo": "meow_lightning.memo.__main__",
    "evaluate": "meow_lightning.evaluation.__main__",
    "fuse": "meow_lightning.cli.fuse",
    "verify-store": "meow_lightning.cli.verify_store",
    "chat": "meow_lightning.cli.chat",
    "dashboard": "meow_lightning.cli.dashboard",
    "leaderboard": "meow_lightning.cli.leaderboard",
    "sweeps": "meow_lightning.cli.sweeps",
    "undo": "meow_lightning.cli.undo",
    "purge": "meow_lightning.cli.purge",
    "push": "meow_lightning.cli.push",
}
INTERRUPTED = 130  # exit status after CTRL-C: 128 plus the number of the signal
OWN_FILES = {  # options that take a path, by the group whose choice was given as a path
    "model": "model.target={0} (a model that knows the facts) or model.base={0}",
    "dataset": "dataset=jsonl dataset.forget={0}",
    "inversion": "inversion=file inversion.path={0}, or inversion=local inversion.model={0} (a language model)",
}
HELP = """\
MEOW-lightning unlearns facts from a language model and measures what was forgotten and what was kept.

  {program}                                      the default run: tiny model, fictional authors, MEOW, on a CPU
  {program} method=grad_ascent seed=1            another method and seed; shared stages are cached
  {program} -m method=meow,grad_ascent seed=0,1  a sweep over all combinations, with one table
  {program} dataset=jsonl dataset.forget=facts.jsonl model.target=./my-model   your own facts and model
  {program} model=phi15 method=meow              the paper's setting: TOFU, its target model, a GPU
  {program} plan=true                            stages and their cost; status=true: what is done; also of a sweep
  {program} --cfg job                            print every option with its value; set any as name=value
  {program} {subcommands} -h   subcommands

Experiment
  dataset=     {dataset}
  model=       {model}
  method=      {method}
  model.base=, model.target=, model.retain=   a folder, a GGUF file or a hub id (owner/name@revision)
Other options that change the results (attacks= takes a list; seed= an integer from 0; limit= most facts per set)
  inversion=   {inversion} (endpoint, local: inversion.model=, inversion/prompt=)
  memo=        {memo}
  optim=       {optim}
  evaluation=  {evaluation}
  ability=     {ability}
  attacks=     {attacks}
  protocol=    {protocol}
  probe=       {probe} (knowledge judged by a pruned proxy, and answers with retrieval)
Options that must not change them
  trainer=     {trainer}
  logger=      {logger}
  callbacks=   {callbacks}
  goal=        convert, finetune, probe, propose, filter, score, verify, unlearn, attack, slim, judge, extract,
               inspect, translate, predict, ability, evaluate, report
  cache=       use, refresh, readonly; preflight=false: start even if memory or disk seem too small
  outputs=     folder of all output; store= of the results alone; memo.verify= windows per score that are recomputed
  debug=       {debug}: the whole pipeline in seconds, with meaningless numbers
Presets
  experiment=  {experiment}
  sweep=       {sweep}
Tab completion: --install-completion. Hydra's own: --hydra-help. Meaning and range of every option: {conf}
"""


def help_text() -> str:
    """Format the text of ``--help``."""
    wide = {group: textwrap.wrap(", ".join(choices(group)), width=105) for group in GROUPS}
    listed = {group: f"\n{' ' * 15}".join(lines) for group, lines in wide.items()}
    return HELP.format(program=program(), conf=CONF, subcommands="|".join(sorted(SUBCOMMANDS)), **listed)


def run_task(work: Callable[[], T]) -> T:
    """Call ``work``. Outside of sweeps an error ends the program here, before Hydra adds its own message."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    from meow_lightning.pipeline.runners import StageError

    try:
        if HydraConfig.get().mode is RunMode.RUN and (name := _launcher()) != "basic":
            raise UserError(
                f"hydra/launcher={name} executes the runs of a sweep as jobs: add -m, also for a single run"
            )
        return work()
    except (UserError, StageError, OmegaConfBaseException) as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise
        raise SystemExit(_report_error(error)) from error


def _launcher() -> str:
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices.get("hydra/launcher", "basic"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of ``meow-lightning`` and ``run.py``: a subcommand, or an experiment.

    Args:
        arguments: Command-line arguments without the program name; ``None`` for those of this process.

    Returns:
        The exit status.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0].partition("=")[0] == completion.FLAG:
        return completion.main(words)
    if words and words[0] in SUBCOMMANDS:
        return int(importlib.import_module(SUBCOMMANDS[words[0]]).main(words[1:]))
    return run(_experiment, words)


def _experiment() -> Any:
    """Compose the config of the command line and run it; with ``-m``, a whole sweep."""
    import hydra

    from meow_lightning.config.validation import register
    from meow_lightning.experiment import run_experiment
    from meow_lightning.sweep.plugins import register_plugins

    register()
    register_plugins()
    compose = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    return compose(lambda cfg: run_task(lambda: run_experiment(cfg)))()


def run(main: Callable[[], Any], arguments: Sequence[str]) -> int:
    """Run the program; returns its exit status: 0, 1 after a one-line error for the user, or 130 after CTRL-C."""
    if any(word in ("--help", "-h") for word in arguments):
        sys.stdout.write(help_text())
        return 0
    try:
        typed, flags = split_flags(arguments)
        _check_words(typed)
    except UserError as error:
        return _report_error(error)
    words = [quote_value(word, multirun=_sweeps(typed, flags)) for word in with_model_group(typed)]
    # A read-only command must not create Hydra's output folders.
    folders = ["hydra.run.dir=.", "hydra.sweep.dir=."] if _reads_only(words) else []
    sys.argv[1:] = [*words, *folders, *flags]
    # Without this, Hydra prints its own long form of every error and ends the process.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from meow_lightning.pipeline.runners import StageError

    try:
        main()
    except (UserError, StageError) as error:
        return _report_error(error)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        first = summarize_error(error, typed)
        return _fail(*(sweep_mistakes if _sweeps(typed, flags) else composition_mistakes)(first, words))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        return _fail(
            f"{error.filename or 'a file'} cannot be written ({error.strerror}); fix this, then rerun to continue"
        )
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; rerun the same command to continue\n")
        return INTERRUPTED
    return 0


def _sweeps(words: Sequence[str], flags: Sequence[str]) -> bool:
    """Whether a command line starts a sweep, so that commas separate values."""
    return bool(set(flags) & set(MULTIRUN)) or any(re.match(r"sweep=(?!null$).", word) for word in words)


def _check_words(words: Sequence[str]) -> None:
    """Reject options that would make Hydra fail with a traceback.

    Raises:
        UserError: Options are invalid.
    """
    found = []
    for word in words:
        try:
            _check_word(word, words)
        except UserError as error:
            found.append(str(error))
    if found:
        raise group_errors(found)


def _check_word(word: str, words: Sequence[str]) -> None:
    name, sign, value = word.partition("=")
    # Neither the store nor the report could contain such a name.
    if (shown := word.encode(errors="replace").decode()) != word:
        raise UserError(f"{shown} is not valid UTF-8 (at each ?); rename the file")
    # Hydra misreads an empty name, or a number as the name of a config file, and crashes.
    if not name or (name in GROUPS and re.fullmatch(r"[\d.]+", value)):
        raise UserError(f"{word} is not a valid option; use name=value, such as method=meow")
    command = not sign and word == words[0] and name not in (*GROUPS, *OPTIONS)
    if command and (near := nearest(word, SUBCOMMANDS)) is not None:
        raise UserError(f"{word} is no subcommand and no option name=value. Did you mean {near}?")
    if name in GROUPS and (value in ("true", "false") or (value == "null" and name not in OPTIONAL)):
        check_choice(name, value, choices(name))
    if name in OWN_FILES and ("/" in value or "\\" in value):
        raise UserError(f"{word} is invalid: for your own files, set {OWN_FILES[name].format(shlex.quote(value))}")
    if name in ("outputs", "store") and sign:
        reason = _unusable_reason(value, words)
        if reason is not None:
            raise UserError(f"{word} cannot be written to ({reason}); choose another folder")


def _unusable_reason(folder: str, words: Sequence[str]) -> str | None:
    """Explain why a command cannot write to a folder, or could not after a plan; ``None`` if it can."""
    if not folder:
        return "it is empty"
    if not _reads_only(words):
        return why_unwritable(Path(folder))
    return why_impossible(Path(folder)) if any(word.casefold().startswith("plan=") for word in words) else None


def _reads_only(words: Sequence[str]) -> bool:
    """Whether a command only reads, so that it also works on a read-only disk."""
    return any(re.fullmatch(r"(plan|status)=(true|yes|on|1)|cache=readonly", word, re.IGNORECASE) for word in words)


def _report_error(error: Exception) -> int:
    from meow_lightning.pipeline.runners import StageError

    if isinstance(error, StageError):
        sys.stderr.write(f"error: {error}\n")
        return 1
    return _fail(*(mistakes_of(error) if isinstance(error, UserError) else [summarize_error(error, sys.argv[1:])]))


def _fail(*lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"error: {' '.join(line.split())}\n")
    return 1
