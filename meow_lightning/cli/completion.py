"""``meow-lightning --install-completion``: tab completion of options and their values, by Hydra, in three shells."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.program import SCRIPT
from meow_lightning.errors import UserError, check_choice
from meow_lightning.store.durable import write_text

FLAG = "--install-completion"
SHELLS = ("bash", "zsh", "fish")
BASH_IN_ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"


def install_completion(shell: str) -> list[str]:
    """Write the completion script of a shell where the shell finds it; returns lines on what was done.

    Files that shells read at their start, such as ``.bashrc``, are not changed. A second call changes nothing.

    Args:
        shell: ``bash``, ``zsh`` or ``fish``.

    Raises:
        UserError: Another shell, or the file cannot be written.
    """
    check_choice(FLAG, shell, SHELLS)
    path, script = completion_file(shell), completion_script(shell)
    try:
        same = path.is_file() and path.read_text(encoding="utf-8") == script
        if not same:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, script)
    except OSError as error:
        raise UserError(
            f"{FLAG}={shell}: {path} cannot be written ({error.strerror}); check its permissions"
        ) from error
    lines = [f"{'already installed' if same else 'written'}: {path}"]
    if shell == "bash":
        lines.append("new shells load it by the package bash-completion; without that, put into ~/.bashrc:")
        lines.append(f"  source {path}")
    elif shell == "zsh":
        lines += ["put into ~/.zshrc:", f"  source {path}"]
    else:
        lines.append("new shells load it")
    return [*lines, f"then {SCRIPT} method=<TAB> lists the methods"]


def completion_file(shell: str) -> Path:
    """Locate the completion script of a shell, by the XDG base directories."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return {
        "bash": data / "bash-completion" / "completions" / SCRIPT,
        "zsh": data / SCRIPT / "completion.zsh",
        "fish": config / "fish" / "completions" / f"{SCRIPT}.fish",
    }[shell]


def completion_script(shell: str) -> str:
    """Build the completion script of a shell: Hydra's, for the installed command."""
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra._internal.core_plugins.fish_completion import FishCompletion

    plugin = FishCompletion if shell == "fish" else BashCompletion
    out = io.StringIO()
    with _named(SCRIPT), contextlib.redirect_stdout(out):
        plugin(config_loader=None).install()  # type: ignore[arg-type] # installing reads no config
    return BASH_IN_ZSH * (shell == "zsh") + out.getvalue()


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Give this process another name, which Hydra writes into the script."""
    before = sys.argv[0]
    sys.argv[0] = name
    try:
        yield
    finally:
        sys.argv[0] = before


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error.

    Args:
        arguments: The flag, as ``--install-completion``, ``--install-completion SHELL`` or with ``=SHELL``. The default
            shell is the user's, by the environment variable ``SHELL``.
    """
    _, sign, attached = arguments[0].partition("=")
    given = attached if sign else next(iter(arguments[1:]), "")
    lines = install_completion(given or Path(os.environ.get("SHELL", "bash")).name)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
