"""lm-evaluation-harness in-process: a model of a run as its language model, and its tasks on stored answers.

Needs the package lm_eval (``pip install 'meow-lightning[ability]'``). Tasks with local questions need no network.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_MAX_GEN_TOKS, DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.evaluator import evaluate
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.distributed import group_by
from meow_lightning.errors import UserError, invalid_option, nearest
from meow_lightning.evaluation.ability import BLOCK, AbilityNumber, AbilityResult, harness_version
from meow_lightning.evaluation.local_questions import LocalQuestions
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.engine import continue_greedily
from meow_lightning.types import Direction, Encoded

Answer = Any  # [log-likelihood, whether the text is the greedy one], a log-likelihood, or a text
Question = Sequence[Instance]  # the requests about one question
DIRECTIONS: Mapping[bool | None, Direction] = {True: "higher", False: "lower", None: "none"}


class EncodedModel(LM):
    """A model with its prompt encoder as a language model of lm-evaluation-harness.

    Prompts are plain text, tokenized and cut to the model's context as by the harness's own class for Hugging Face
    models. The requests of one forward pass depend on the requests alone, not on a batch size or on the number of
    processes, so neither changes an answer.

    Args:
        model: A causal language model in evaluation mode.
        encoder: Its tokens.
        generation_batch_size: Prompts continued together, from 1; affects speed and memory, not the texts.
    """

    def __init__(self, model: Any, encoder: PromptEncoder, *, generation_batch_size: int | AdaptiveBatchSize) -> None:
        super().__init__()
        self.model, self.encoder, self.generation_batch_size = model, encoder, generation_batch_size

    @property
    def prefix_id(self) -> int:
        """The token before a text without a prompt: the begin token, else the end token."""
        begin = self.encoder.tokenizer.bos_token_id
        return int(self.encoder.tokenizer.eos_token_id if begin is None else begin)

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Compute log p(text | prompt) in nats of every (prompt, text), and whether greedy decoding gives the text."""
        rows = [self._encoded(*request.args) for request in requests]
        together = group_by(range(len(rows)), key=lambda number: requests[number].args[0])
        sizes = [characters([requests[number] for number in each]) for each in together]
        found: dict[int, tuple[float, bool]] = {}
        for block in blocks(sizes):
            numbers = [number for place in block for number in together[place]]
            for at, likelihood in self._scored([rows[number] for number in numbers]):
                found[numbers[at]] = sum(likelihood.logps), all(likelihood.hits)
        return [found[number] for number in range(len(rows))]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[float]:
        """Compute log p(text) in nats of every text, in windows of the model's context."""
        totals = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(
                self.encoder.encode_plain(text), self.prefix_id, max_seq_len=self.encoder.context, context_len=1
            )
            pairs = [make_disjoint_window(window) for window in windows]
            # One window at a time: each is as long as the context.
            scored = [self._scored([Encoded((*given, *text), len(given))]) for given, text in pairs]
            totals.append(sum(sum(likelihood.logps) for each in scored for _, likelihood in each))
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[str]:
        """Continue every prompt greedily until one of its stop texts, an end token or its token budget.

        Raises:
            UserError: A task wants sampled answers, or its budget leaves no room for a prompt.
        """
        settings = [self._generation(request) for request in requests]
        prompts = [
            self.encoder.encode_plain(request.args[0])[-(self.encoder.context - budget) :]
            for request, (budget, _) in zip(requests, settings, strict=True)
        ]
        continued = continue_greedily(
            self.model, prompts, budgets=[budget for budget, _ in settings], end_ids=self.encoder.end_ids,
            pad_id=self.encoder.pad_id, slots=self.generation_batch_size, progress=None,
        )  # fmt: skip
        texts = {number: self.encoder.decode(each.ids, keep_special=False) for number, each in continued}
        return [
            postprocess_generated_text(texts[number], stop, think_end_token=None)
            for number, (_, stop) in enumerate(settings)
        ]

    def _generation(self, request: Instance) -> tuple[int, list[str]]:
        """Return a request's token budget and stop texts."""
        settings = dict(normalize_gen_kwargs(request.args[1], DEFAULT_MAX_GEN_TOKS))
        if settings["do_sample"]:
            raise UserError(f"ability.tasks: {request.task_name} samples its answers, and only greedy ones are made")
        budget = int(settings["max_gen_toks"])
        if budget >= self.encoder.context:
            raise UserError(
                f"ability.tasks: {request.task_name} generates up to {budget} tokens, and the model reads "
                f"{self.encoder.context}: take a model with a longer context, or leave the task out"
            )
        return budget, handle_stop_sequences(settings["until"], eos=str(self.encoder.tokenizer.eos_token))

    def _scored(self, rows: Sequence[Encoded]) -> Iterator[tuple[int, Any]]:
        return loglikelihoods(self.model, rows, pad_id=self.encoder.pad_id, batch=len(rows), progress=None)

    def _encoded(self, prompt: str, text: str) -> Encoded:
        """Encode a prompt and a text as the harness does: blanks at the end of the prompt belong to the text."""
        text = prompt[len(prompt.rstrip()) :] + text
        prompt = prompt.rstrip()
        if prompt:
            ids, given = self.encoder.encode_plain(prompt + text), len(self.encoder.encode_plain(prompt))
        else:
            ids, given = list(self.encoder.tokenizer(text, add_special_tokens=False).input_ids), 1
            if ids[:1] != [self.prefix_id]:
                ids.insert(0, self.prefix_id)
        scored = len(ids) - given
        if not 0 < scored <= self.encoder.context:
            raise UserError(
                f"ability.tasks: an answer has {scored} tokens and the model's context {self.encoder.context}: "
                f"{text[:60]!r}"
            )
        ids = ids[-(self.encoder.context + 1) :]
        return Encoded(tuple(ids), len(ids) - scored)


class StoredAnswers(LM):
    """Answers computed before, as a language model of lm-evaluation-harness.

    Args:
        questions: The requests of every question.
        answers: The answers to them, in the same order.
    """

    def __init__(self, questions: Sequence[Question], answers: Sequence[Sequence[Answer]]) -> None:
        super().__init__()
        self._answers = {
            _request_key(request): answer
            for question, given in zip(questions, answers, strict=True)
            for request, answer in zip(question, given, strict=True)
        }

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Look up the log-likelihoods."""
        return [tuple(self._answers[_request_key(request)]) for request in requests]  # type: ignore[misc]

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Look up the log-likelihoods of whole texts."""
        return [self._answers[_request_key(request)] for request in requests]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Look up the texts."""
        return [self._answers[_request_key(request)] for request in requests]


class HarnessTask:
    """A task of lm-evaluation-harness; a name may stand for a group of tasks.

    Args:
        name: Its name.
        config: Its definition with the keys of the harness's task files; ``None`` for one that the harness has.
        local: Its questions; ``None`` for a task that the harness has.
        num_fewshot: Solved examples before each question; ``None`` as the task says. A task that fixes 0 keeps it.
        limit: Maximum number of questions, of each task of a group; ``None`` for all.

    Raises:
        UserError: The definition is invalid, or the harness has no such task or cannot load it.
    """

    def __init__(
        self, name: str, *, config: Mapping[str, Any] | None, local: LocalQuestions | None, num_fewshot: int | None,
        limit: int | None,
    ) -> None:  # fmt: skip
        self.name, self.limit = name, limit
        with quiet():
            random.seed(DEFAULT_RANDOM_SEED)  # as the harness's own command does before it loads a task
            np.random.seed(DEFAULT_OTHER_SEED)
            if config is None or local is None:
                self._loaded = _shipped(name)
            else:
                self._loaded = {"tasks": {name: _local(name, config, local)}, "groups": {}, "group_map": {}}
        for task in self._loaded["tasks"].values():
            fixed = task.get_config("num_fewshot")
            if fixed is None or (num_fewshot is not None and fixed != 0):
                task.set_config(key="num_fewshot", value=num_fewshot or 0)

    def questions(self) -> list[Question]:
        """Build the requests of every question, in order."""
        found: list[Question] = []
        with quiet():
            self._seed()
            for task in self._loaded["tasks"].values():
                task.build_all_requests(limit=self.limit)
                found += group_by(task.instances, key=lambda request: request.doc_id)
        return found

    def result(self, answers: Sequence[Sequence[Answer]]) -> AbilityResult:
        """Compute the task's metrics and their standard errors.

        Args:
            answers: The answers to the requests of every question, in the order of :meth:`questions`.
        """
        stored = StoredAnswers(self.questions(), answers)
        with quiet():
            self._seed()
            found: Any = evaluate(stored, self._loaded, limit=self.limit, log_samples=False)
        own = list(_numbers(self.name, found))
        shots = {found["n-shot"].get(task) for task in self._loaded["tasks"]}
        return AbilityResult(
            task=self.name, harness=harness_version(), num_fewshot=shots.pop() if len(shots) == 1 else None,
            questions=sum(each["effective"] for each in found["n-samples"].values()),
            # A collection of tasks without an aggregate gives the numbers of each.
            numbers=tuple(own or (number for task in found["results"] for number in _numbers(task, found))),
        )  # fmt: skip

    def _seed(self) -> None:
        """Draw the same solved examples whenever the requests are built."""
        for task in self._loaded["tasks"].values():
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def answer(model: LM, requests: Sequence[Instance]) -> list[Answer]:
    """Let a model answer requests of any type, in order."""
    found: dict[int, Answer] = {}
    for numbers in group_by(range(len(requests)), key=lambda number: requests[number].request_type):
        kind: Callable[..., Sequence[Answer]] = getattr(model, requests[numbers[0]].request_type)
        found |= zip(numbers, kind([requests[number] for number in numbers]), strict=True)
    return [found[number] for number in range(len(requests))]


def blocks(sizes: Sequence[int]) -> list[list[int]]:
    """Split things of given sizes in characters into consecutive blocks of at most ``BLOCK``, or of one thing."""
    found: list[list[int]] = []
    total = 0
    for number, size in enumerate(sizes):
        if not found or total + size > BLOCK:
            found.append([])
            total = 0
        found[-1].append(number)
        total += size
    return found


def characters(requests: Question) -> int:
    """Count the characters of some requests, with each prompt once."""
    prompts = {request.args[0] for request in requests}
    return sum(map(len, prompts)) + sum(len(str(part)) for request in requests for part in request.args[1:])


def _request_key(request: Instance) -> tuple[str, str]:
    return request.request_type, json.dumps(request.args, sort_keys=True)


def _local(name: str, config: Mapping[str, Any], local: LocalQuestions) -> ConfigurableTask:
    """Build a task from its definition and local questions."""
    splits = {split: Dataset.from_list(local.rows(split)) for split in local.files}
    try:
        return ConfigurableTask(config={**deepcopy(dict(config)), "task": name, "custom_dataset": lambda **_: splits})
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"ability.local.{name} is not a task of lm-evaluation-harness: {_reason(error)}") from error


def _shipped(name: str) -> dict[str, Any]:
    """Load a task or group that lm-evaluation-harness has."""
    manager = _manager()
    if name not in manager.all_tasks:
        raise invalid_option(
            "ability.tasks", name, "tasks of ability.local or of lm-evaluation-harness",
            did_you_mean=nearest(name, manager.all_tasks),
        )  # fmt: skip
    try:
        return dict(manager.load([name]))
    except Exception as error:
        raise UserError(
            f"ability.tasks: the questions of {name} cannot be loaded ({_reason(error)}); is there a network? "
            "conf/ability has tasks on local files"
        ) from error


@lru_cache(maxsize=1)
def _manager() -> TaskManager:
    """Read the definitions of all tasks, which takes several seconds."""
    return TaskManager()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _numbers(task: str, found: Mapping[str, Any]) -> Iterator[AbilityNumber]:
    """Yield the metrics of one task or group in the harness's results."""
    row, better = found["results"].get(task, {}), found["higher_is_better"].get(task) or {}
    for key, value in row.items():
        metric, _, answers = key.partition(",")
        if not answers or metric.endswith("_stderr") or not isinstance(value, (int, float, np.number)):
            continue
        error = row.get(f"{metric}_stderr,{answers}")
        yield AbilityNumber(
            task=task, metric=metric if answers == "none" else f"{metric}@{answers}", value=float(value),
            stderr=float(error) if isinstance(error, (int, float, np.number)) else None,
            direction=DIRECTIONS[better.get(metric)],
        )  # fmt: skip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the harness's log and progress bars, and keep it from starting processes for its standard errors."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
