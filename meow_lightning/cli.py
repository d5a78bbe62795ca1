"""The command line around Hydra: the help screen, and every mistake as one line with the nearest valid word."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from meow_lightning.types import UserError

T = TypeVar("T")
CONF = Path(__file__).resolve().parent.parent / "conf"
GROUPS = (
    "dataset",
    "model",
    "method",
    "inversion",
    "memo",
    "optim",
    "evaluation",
    "trainer",
    "logger",
    "callbacks",
    "debug",
)
HELP = """\
MEOW-lightning makes a language model forget facts without wrecking it, and proves what happened.

  python run.py                                      the whole job: tiny model, fictional authors, MEOW, on a CPU
  python run.py method=grad_ascent seed=1            another method, another seed; what is shared is not redone
  python run.py -m method=meow,grad_ascent seed=0,1  a sweep over all combinations, one table at the end
  python run.py trainer=ddp trainer.accelerator=cpu  the same numbers from two processes
  python run.py goal=score                           stop at a stage
  python run.py plan=true                            what is there and what would run
  python run.py --cfg job                            every setting with its value; any can be said as word=value

What an experiment is
  dataset=     {dataset}
  model=       {model}
  method=      {method}
What else changes the numbers
  inversion=   {inversion}
  memo=        {memo}
  optim=       {optim}
  evaluation=  {evaluation}
  seed=        a whole number from 0
What must not change them
  trainer=     {trainer}
  logger=      {logger}
  callbacks=   {callbacks}
  goal=        finetune, invert, score, unlearn, answer, evaluate, report
  cache=       use, refresh (remake), readonly (make nothing)
  plan=        true, false
  outputs=     folder of everything that is written
  debug=       {debug}: the whole path in seconds, with meaningless numbers

The files in conf/ say what each setting means, its unit and its range. Hydra's own options: --hydra-help
"""


def options(group: str) -> list[str]:
    """The choices of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def help_screen() -> str:
    """The text of ``--help``."""
    return HELP.format(**{group: ", ".join(options(group)) for group in GROUPS})


def job(work: Callable[[], T]) -> T:
    """What ``work`` returns. Alone, a user's mistake ends the program here, before Hydra adds words of its own."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from meow_lightning.runners import StageError

    try:
        return work()
    except (UserError, StageError) as error:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            raise
        raise SystemExit(_told(error)) from error


def run(main: Callable[[], Any], arguments: Sequence[str]) -> int:
    """The exit status of the program: 0, or 1 after one line on standard error for what a user can mend."""
    if any(word in ("--help", "-h") for word in arguments):
        sys.stdout.write(help_screen())
        return 0
    # Hydra otherwise prints its own long form of every error and ends the process itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from meow_lightning.runners import StageError

    try:
        main()
    except (UserError, StageError) as error:
        return _told(error)
    except (HydraException, OmegaConfBaseException) as error:
        return _fail(one_line(error))
    except KeyboardInterrupt:
        return _fail("stopped; the same command goes on from what is finished")
    return 0


def _told(error: Exception) -> int:
    if isinstance(error, UserError):
        return _fail(str(error))
    sys.stderr.write(f"error: {error}\n")
    return 1


def _fail(line: str) -> int:
    sys.stderr.write(f"error: {' '.join(line.split())}\n")
    return 1


def one_line(error: Exception) -> str:
    """A composition error of Hydra or OmegaConf in one line, with the nearest valid word where there is one."""
    from meow_lightning.config import nearest

    text = "\n".join(str(each) for each in (error, error.__cause__) if each is not None)
    if found := re.search(r"(?:In .*: )?Could not find '([\w-]+)/([^']+)'", text):
        group, given = found.groups()
        if (CONF / group).is_dir():
            return (
                f"{group}={given} is not known{nearest(given, options(group))} (allowed: {', '.join(options(group))})"
            )
    if found := re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text):
        return _unknown_key(found.group(1))
    if found := re.search(r"Could not override '([^']+)'\. No match in the defaults list", text):
        return _unknown_key(found.group(1))
    if found := re.search(r"You must specify '([^']+)'|Missing mandatory value: (\S+)", text):
        return f"{found.group(1) or found.group(2)} has no value; give it on the command line"
    if found := re.search(r"Value '(.*)' of type '(\w+)' could not be converted to (\w+)", text):
        key = re.search(r"full_key: (\S+)", text)
        return f"{key.group(1) if key else 'an option'}={found.group(1)} has the wrong type: {found.group(3)} is needed"
    return text.split("\n")[0]


def _unknown_key(given: str) -> str:
    from meow_lightning.config import nearest

    known = known_keys()
    near = nearest(given, known)
    if not near and "." in given:
        group = given.split(".")[0]
        near = nearest(given, [key for key in known if key.startswith(f"{group}.")])
    return f"{given} is not an option{near} (all of them: python run.py --cfg job)"


def known_keys() -> list[str]:
    """Every option of the default run, dotted, and the config groups."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        content = OmegaConf.to_container(compose("config"), resolve=False)

    def walk(node: object, path: str) -> list[str]:
        below = (
            [key for name, value in node.items() for key in walk(value, f"{path}.{name}".lstrip("."))]
            if isinstance(node, dict)
            else []
        )
        return [*([path] if path else []), *below]

    return walk(content, "")
