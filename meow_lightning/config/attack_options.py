"""Options of attacks on the finished models: ``attacks.<condition>``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import ValidationError, model_validator

from meow_lightning.config.mistakes import invalid
from meow_lightning.config.model_options import Adapters
from meow_lightning.config.options import RUNTIME_ARGUMENTS, ComponentConfig, Options, consistency
from meow_lightning.config.ranges import Count, Epochs, LearningRate, NonNegative
from meow_lightning.config.recipes import value_for_model
from meow_lightning.config.training_options import Betas, Epsilon, Learning, Warmup, WeightDecay
from meow_lightning.errors import invalid_option


class ProposerPrompt(Options):
    """``attacks.<condition>.proposer.prompt``: how the language model is asked for prompts."""

    version: Count
    """Version of the texts."""
    system: str
    """Instructions to the language model."""
    user: str
    """Message with the question."""
    tried: str
    """Text appended if prompts were tried already."""


class TranslatorPrompt(Options):
    """``attacks.<condition>.translator.prompt``: how the language model is asked for a translation."""

    version: Count
    """Version of the texts."""
    system: str
    """Instructions to the language model."""
    user: str
    """Message with the question and the language."""


class _WriterConfig(ComponentConfig):
    """A language model that writes texts for an attack, chosen as a file of its group.

    Attributes:
        group: The config group.
        chosen: How a file of the group is chosen, up to its name.
    """

    provided: ClassVar[tuple[str, ...]] = RUNTIME_ARGUMENTS
    passed: ClassVar[tuple[str, ...]] = ("prompt",)
    group: ClassVar[str]
    chosen: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _check_chosen(cls, data: Any) -> Any:
        """Say how a file is chosen to whoever names it as if it were a value."""
        if isinstance(data, str):
            expected = (
                f"null, or the options of a file in conf/{cls.group}, which is chosen by its group: {cls.chosen}={data}"
            )
            raise ValidationError.from_exception_data(cls.__name__, [invalid(data, expected).details()])
        return data


class ProposerConfig(_WriterConfig):
    """``attacks.<condition>.proposer``: the language model that writes prompts for an attack."""

    group: ClassVar[str] = "proposer"
    chosen: ClassVar[str] = "proposer@attacks.instruction.proposer"

    per_reply: Count
    """Prompts requested per reply."""
    prompt: ProposerPrompt


class TranslatorConfig(_WriterConfig):
    """``attacks.<condition>.translator``: the language model that translates the questions for an attack."""

    group: ClassVar[str] = "translator"
    chosen: ClassVar[str] = "translator@attacks.translation.translator"

    languages: list[str]
    """Languages to translate into."""
    questions: Literal["forget", "all"]
    """Which questions are translated: those to forget, or those of every evaluation set."""
    prompt: TranslatorPrompt

    @consistency
    def _check_languages(self) -> None:
        names = [name.strip() for name in self.languages]
        if not names or not all(names) or len({name.casefold() for name in names}) < len(names):
            expected = "one or more languages, each once, such as [French, Spanish]"
            raise invalid_option(f"{self.chosen.partition('@')[2]}.languages", self.languages, expected)


class AttackConfig(ComponentConfig):
    """``attacks.<condition>``: an attack; one that trains also holds a recipe, each number plain or by model."""

    label: str
    """How tables and pictures name a model after this attack."""
    lr: LearningRate | dict[str, LearningRate] | None = None
    """Peak learning rate by model."""
    epochs: Epochs | dict[str, Epochs] | None = None
    """Passes over the facts by model."""
    global_batch_size: Count | dict[str, Count] | None = None
    """Rows per step, over all processes, by model."""
    betas: Betas | None = None
    """AdamW's decay rates."""
    eps: Epsilon | None = None
    """AdamW's epsilon."""
    weight_decay: WeightDecay | None = None
    """AdamW's weight decay, on all weights."""
    max_grad_norm: NonNegative | None = None
    """Maximum gradient norm; 0 for no clipping."""
    warmup: Warmup | Literal["epoch"] | None = None
    """Steps, a fraction of all steps below 1, or ``epoch``: the steps of one epoch."""
    schedule: Literal["constant", "linear"] | None = None
    """Schedule of the learning rate after the warm-up."""
    lora: Adapters | None = None
    """Adapters that the attack trains if ``model.lora`` sets none; null to train all weights."""
    curve: Count | None = None
    """Steps between two measurements during the training; ``None`` for none."""
    proposer: ProposerConfig | None = None
    """Language model that writes prompts for an attack that searches some; null for prompts by rules."""
    translator: TranslatorConfig | None = None
    """Language model that translates the questions for an attack that asks in other languages; null for a file."""

    def recipe(self, option: str, model: str) -> dict[str, Any]:
        """Resolve the recipe for a model; an option without a value is left out.

        Args:
            option: The dotted option of the attack, for messages.
            model: Name of the model.

        Raises:
            UserError: A table has no entry for the model and no default.
        """
        given = {name: value for name, value in self.plain().items() if name in Learning.model_fields}
        return {
            name: value_for_model(value, f"{option}.{name}", model)
            for name, value in given.items()
            if value is not None
        }
