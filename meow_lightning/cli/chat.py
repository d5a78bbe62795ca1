"""``meow-lightning chat``, also ``python -m meow_lightning.cli.chat``: asks the models of a finished run."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.composition import compose_options
from meow_lightning.config.program import program
from meow_lightning.config.quoting import shell_word
from meow_lightning.config.schema import RunConfig
from meow_lightning.errors import UserError, invalid_option

if TYPE_CHECKING:
    import torch
    from rich.table import Table

    from meow_lightning.data.prompting import PromptEncoder

DESCRIPTION = """\
Ask the target, the unlearned and the retain model of a finished run the same questions, side by side. Answers are
greedy, as in the report. WORDS are those of the run, such as method=npo seed=1; none for the default run."""
REFRESH = 0.1  # seconds between two updates of growing answers
PROMPT = "question (an empty line ends) > "


class Speaker:
    """One model of a run with its prompts.

    Args:
        model: The model that answers, in evaluation mode.
        encoder: Its prompts and tokens.
        max_new_tokens: Longest answer in tokens, from 1.
    """

    def __init__(self, model: torch.nn.Module, encoder: PromptEncoder, *, max_new_tokens: int) -> None:
        self.model, self.encoder, self.max_new_tokens = model, encoder, max_new_tokens

    def answer(self, question: str, *, growing: Callable[[str], None]) -> str:
        """Answer a question greedily.

        Args:
            question: The question, without the model's template.
            growing: Called with the answer so far before every token.
        """
        from meow_lightning.generation.reference import reference_continuation

        prompt = self.encoder.generation_prompt_ids(question)
        found = reference_continuation(
            self.model, prompt, budget=self.max_new_tokens, end_ids=self.encoder.end_ids,  # type: ignore[arg-type]
            pad_id=self.encoder.pad_id, watch=lambda ids: growing(self.encoder.decode_answer(ids)),
        )  # fmt: skip
        return self.encoder.decode_answer(found.ids)


def load_speakers(options: RunConfig, words: Sequence[str], *, max_new_tokens: int) -> dict[str, Speaker]:
    """Load the models of a finished run by role: target, unlearned and, if the run has one, retain.

    Args:
        options: The options of the run.
        words: The words that they were given by, for messages.
        max_new_tokens: Longest answer in tokens, from 1.

    Raises:
        UserError: A model is not in the store.
    """
    from meow_lightning.experiment import prepare
    from meow_lightning.store.store import Store

    store = Store(root=Path(options.store), cache="readonly")
    models = prepare(options)[0].models.by_role
    absent = [role for role, model in models.items() if store.find(model) is None]
    if absent:
        command = " ".join([program(), *map(shell_word, words)])
        raise UserError(
            f"the run has no {absent[0]} model in {options.store} yet: run it first, {command}, or give the words of a "
            "finished run"
        )
    keys = {model.key: store.path(model) for model in models.values()}
    loaded = {key: Speaker(*_load(path, options), max_new_tokens=max_new_tokens) for key, path in keys.items()}
    return {role: loaded[model.key] for role, model in models.items()}


def _load(folder: Path, options: RunConfig) -> tuple[torch.nn.Module, PromptEncoder]:
    """Load a stored model as it answers, on a GPU if there is one."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from meow_lightning.config.precision import PRECISIONS
    from meow_lightning.models.load import load_codec
    from meow_lightning.stages.common.stored_method import method_of
    from meow_lightning.stages.results.model import model_folder

    disable_progress_bar()  # "Loading weights" between the answers
    path, precision = model_folder(folder), PRECISIONS[options.model.precision]
    method = method_of(path, allow=options.trusted_packages)
    model = method.load(path, dtype=precision.weights, attention=options.model.attention)
    encoder = load_codec(path, prompt=options.model.prompt.plain(), model=model)
    return method.inference(model).eval().to("cuda" if torch.cuda.is_available() else "cpu"), encoder


def answers(
    speakers: Mapping[str, Speaker], question: str, *, show: Callable[[Mapping[str, str]], None]
) -> dict[str, str]:
    """Put a question to all models at once; returns their answers by role.

    Args:
        speakers: The models by role; one model may have several roles.
        question: The question.
        show: Called with all answers so far, every ``REFRESH`` seconds.
    """
    growing = dict.fromkeys(speakers.values(), "")

    def ask(speaker: Speaker) -> str:
        return speaker.answer(question, growing=lambda text: growing.__setitem__(speaker, text))

    with ThreadPoolExecutor(len(growing)) as pool:
        pending = {speaker: pool.submit(ask, speaker) for speaker in growing}
        while not all(each.done() for each in pending.values()):
            show({role: growing[speaker] for role, speaker in speakers.items()})
            time.sleep(REFRESH)
        return {role: pending[speaker].result() for role, speaker in speakers.items()}


def table(texts: Mapping[str, str], question: str) -> Table:
    """Lay the answers out in columns of equal width."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(question), title_justify="left", expand=True)
    for role in texts:
        made.add_column(role, ratio=1, overflow="fold")
    made.add_row(*map(Text, texts.values()))
    return made


def typed() -> Iterator[str]:
    """Yield what is typed, until an empty line or the end of the input."""
    while line := _line():
        yield line


def lines_of(ask: str) -> list[str]:
    """Read the questions of a file, one per line.

    Raises:
        UserError: The file cannot be read or has no questions.
    """
    try:
        lines = [line.strip() for line in Path(ask).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--ask={ask} cannot be read ({error}): expected a text file, one question per line") from error
    found = [line for line in lines if line]
    if not found:
        raise UserError(f"--ask={ask} has no questions: expected one per line")
    return found


def _line() -> str:
    try:
        return input(PROMPT if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error."""
    parser = argparse.ArgumentParser(prog=program("chat"), description=DESCRIPTION)
    parser.add_argument("words", nargs="*", metavar="WORDS", help="options of the run, name=value")
    parser.add_argument("--ask", metavar="FILE", help="ask the lines of a file and stop")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer (default: as in the report)")
    given = parser.parse_intermixed_args(arguments)
    try:
        _chat(given)
    except KeyboardInterrupt:
        sys.stdout.write("\n")
    return 0


def _chat(given: Any) -> None:
    if given.max_new_tokens is not None and given.max_new_tokens < 1:
        raise invalid_option("--max-new-tokens", given.max_new_tokens, "an integer of at least 1", did_you_mean=1)
    options = compose_options(given.words)
    asked = iter(lines_of(given.ask)) if given.ask is not None else typed()  # a bad file is found before any loading
    speakers = load_speakers(
        options, given.words, max_new_tokens=given.max_new_tokens or options.evaluation.max_new_tokens
    )
    for question in asked:
        _show(speakers, question)


def _show(speakers: Mapping[str, Speaker], question: str) -> None:
    """Show the answers to a question as they grow; where the output is no terminal, once they are complete."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        console.print(table(answers(speakers, question, show=lambda _: None), question))
        return
    with Live(console=console, auto_refresh=False) as screen:
        final = answers(
            speakers, question, show=lambda texts: screen.update(table(texts, question), refresh=True)
        )  # fmt: skip
        screen.update(table(final, question), refresh=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
