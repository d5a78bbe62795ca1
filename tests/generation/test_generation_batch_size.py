from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meow_lightning.generation.batch_size import AdaptiveBatchSize, short_of_memory
from meow_lightning.generation.engine import continue_greedily

CPU = "[enforce fail at alloc_cpu.cpp:125] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


class Narrow(torch.nn.Module):
    """Says last token + 1; has memory for ``most`` rows, and for fewer later if that is said."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__()
        self.most, self.error, self.widths = most, error, []  # type: ignore[var-annotated]

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        if len(input_ids) > self.most:
            raise self.error
        self.widths.append(len(input_ids))
        return SimpleNamespace(logits=torch.nn.functional.one_hot((input_ids[:, -1:] + 1) % 50, 50).float())


def asked(model: Any, slots: Any, count: int = 20) -> dict[int, tuple[int, ...]]:
    pairs = continue_greedily(
        model.eval(), [[number] for number in range(count)], budgets=[3] * count, end_ids=frozenset(), pad_id=0,
        slots=slots, progress=None,
    )  # fmt: skip
    return {index: said.ids for index, said in pairs}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU), MemoryError()])
def test_slots_are_halved_until_they_fit_and_nothing_is_lost(error: BaseException) -> None:
    notes: list[str] = []
    room = AdaptiveBatchSize(16, note=notes.append)
    model = Narrow(5, error)
    expected = {number: (number + 1, number + 2, number + 3) for number in range(20)}
    assert asked(model, room) == expected
    assert room.slots == 4
    assert notes == [
        "memory ran out with 16 prompts per batch; continued with 8",
        "memory ran out with 8 prompts per batch; continued with 4",
    ]
    assert asked(model, room) == expected  # the room remembers: no third note
    assert len(notes) == 2
    assert max(model.widths) == 4


def test_memory_that_gets_short_in_the_middle_costs_no_finished_text() -> None:
    model = Narrow(8, MemoryError())
    pairs = continue_greedily(
        model.eval(), [[number] for number in range(20)], budgets=[2] * 20, end_ids=frozenset(), pad_id=0,
        slots=AdaptiveBatchSize(8, note=None), progress=None,
    )  # fmt: skip
    found = [next(pairs)[0]]
    model.most = 2
    found += [index for index, _ in pairs]
    assert sorted(found) == list(range(20))  # each once


def test_a_single_prompt_that_is_too_much_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        asked(Narrow(0, torch.OutOfMemoryError("CUDA out of memory")), 4)


def test_prompts_recomputed_alone_have_all_the_memory() -> None:
    class Close(Narrow):
        """Cannot choose between two tokens, and has memory for one row while others wait for their turn."""

        def forward(self, input_ids: torch.Tensor, **rest: Any) -> Any:
            found = super().forward(input_ids, **rest)
            found.logits[..., 0] = found.logits.amax(-1)
            return found

    model = Close(4, MemoryError())
    assert asked(model, 4, 8) == {number: (0, 0, 0) for number in range(8)}
    assert model.widths == [4, 4, *[1] * 24]  # first the batches, then the close ones by themselves


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        asked(Narrow(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied")), 4)
    assert not short_of_memory(ValueError("can't allocate memory"))
