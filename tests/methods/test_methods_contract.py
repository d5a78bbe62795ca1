from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.assistant import Assistant

from meow_lightning.config.instantiate import component_class as named
from meow_lightning.config.schema import MethodConfig
from meow_lightning.data.batch_plan import counts, shard_token_batches
from meow_lightning.data.collate import collate
from meow_lightning.methods.finetune import FineTune
from meow_lightning.methods.retain import RetainMethod
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.training.module import total_loss
from meow_lightning.training.preparation import prepare_method
from meow_lightning.types import Encoded, TokenBatch

FILES = sorted((Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
NODES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
BUILT = {name: MethodConfig.model_validate(node).instantiate(allow=[]) for name, node in NODES.items()} | {
    "learn": FineTune()
}
TRAINING = {name: method for name, method in BUILT.items() if method.streams}

ENCODED = {
    "forget": [Encoded((5, 6, 7, 8), 2, -9.5), Encoded((9, 10, 11), 1, -10.25)],
    "retain": [Encoded((12, 13, 14), 2), Encoded((15, 16, 17, 18, 19), 3)],
    "inverted": [Encoded((5, 6, 20, 21), 2, -11.0), Encoded((9, 22), 1, -4.5)],
    "idk": [Encoded((5, 6, 23), 2, -5.0), Encoded((9, 24, 25), 1, -9.75)],
    "vague": [Encoded((5, 6, 26), 2), Encoded((9, 27, 28), 1)],
    "learn": [Encoded((30, 31, 32), 1), Encoded((33, 34), 1)],
    "surprise": [Encoded((40, 41), 1)],
}
STORED = TRAINING | {"assistant": Assistant(weight=0.75)}  # with a method whose answers are not those of its weights
training = pytest.mark.parametrize("name", TRAINING)


class Watched(dict):
    """A batch that remembers which streams were read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> TokenBatch:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def _all(self, *unused: Any) -> Any:
        raise AssertionError("a method may not walk over a batch: it would read streams it did not declare")

    __iter__ = keys = values = items = _all  # type: ignore[assignment]


def batch(rows: int = 2, *, width: int = 0) -> Watched:
    streams = {}
    for name, encoded in ENCODED.items():
        made = collate(encoded[:rows], pad_id=1)
        blank = max(0, width - made.input_ids_BT.shape[1])
        padded = (torch.nn.functional.pad(t, (0, blank), value=v) for t, v in zip(made[:3], (1, 0, 0), strict=True))
        streams[name] = TokenBatch(*padded, made.ref_logps_B)
    return Watched(streams)


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights that a method trains: some freeze others."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def frozen(model: torch.nn.Module) -> torch.nn.Module:
    """A start model that differs from the trained one, as after some steps."""
    start = copy.deepcopy(model).eval().requires_grad_(False)
    move(start.parameters(), by=0.02)
    return start


def move(weights: Iterable[torch.nn.Parameter], *, by: float) -> None:
    """Add noise of a standard deviation to weights, as some steps would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in weights:
            weight += by * torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype)


def start_of(method: Any, model: torch.nn.Module) -> torch.nn.Module | None:
    training, modules = model.training, set(model.modules())
    prepare_method(
        method, model, rows=ENCODED, seed=0, pad_id=1, micro_batch_size=1, micro_batch_tokens=None, may_attach=True
    )
    if set(model.modules()) != modules:
        move(trained(model), by=1.0)  # modules that start at zero: their start model is the model without them
    model.train(training)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in trained(model):
            if not weight.any():  # half of an adapter's weights; the gradient of the other half would be 0
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return frozen(model) if method.reference in ("model", "both") else None


def loss(
    method: Any, model: torch.nn.Module, given: Watched, rows: int = 2, start: torch.nn.Module | None = None
) -> torch.Tensor:
    denominators = counts({name: encoded[:rows] for name, encoded in ENCODED.items()})
    return total_loss(method.loss(model, given, start or start_of(method, model)), denominators)


def test_there_are_methods_to_hold() -> None:
    assert {"meow", "meow_retain", "grad_ascent", "grad_diff", "none", "retrain"} <= set(NODES)


@pytest.mark.parametrize("name", NODES)
def test_file_name_is_the_name(name: str) -> None:
    assert NODES[name]["name"] == name


@pytest.mark.parametrize("name", BUILT)
def test_constructor_is_keyword_only_without_defaults_but_the_retain_terms_and_documented(name: str) -> None:
    made = type(BUILT[name])
    parameters = inspect.signature(made).parameters
    assert all(each.kind is each.KEYWORD_ONLY for each in parameters.values())
    defaults = {key for key, each in parameters.items() if each.default is not each.empty}
    assert defaults == ({"retain", "retain_weight"} if issubclass(made, RetainMethod) else set())
    assert (made.__doc__ or "").strip()
    assert "loss" not in vars(made) or (made.loss.__doc__ or "").strip()
    if name in NODES:
        assert named(NODES[name], allow=[]) is made


@pytest.mark.parametrize("name", BUILT)
def test_the_class_declares_its_streams(name: str) -> None:
    method = BUILT[name]
    assert method.reference in ("none", "logprobs", "model", "both")
    assert method.start == ("retain" if name == "retrain" else "target")
    assert set(method.streams) <= {"forget", "retain", "inverted", "idk", "learn", *method.builders}
    assert set(method.builders) <= set(method.streams)
    assert set(method.paired) <= set(method.streams[1:])
    assert len(set(method.streams)) == len(method.streams)
    assert ("inverted" in method.streams) == ("select" in NODES.get(name, {}))
    assert bool(method.streams) == ("lr" in NODES.get(name, {"lr": 0}))


@pytest.mark.parametrize("name", ["none", "retrain"])
def test_methods_that_train_nothing(name: str, tiny) -> None:
    assert BUILT[name].streams == ()
    with pytest.raises(TypeError, match=r"has the streams \(\) but defines no loss"):
        BUILT[name].loss(tiny, batch(), None)


@training
@pytest.mark.parametrize("rows", [1, 2])
def test_loss_is_finite_and_reaches_every_trainable_weight_and_no_other(name: str, rows: int, tiny) -> None:
    frozen = tiny.model.layers[0].mlp.up_proj.weight
    frozen.requires_grad_(False)
    value = loss(TRAINING[name], tiny, batch(rows), rows)
    value.backward()
    assert math.isfinite(value.item())
    assert frozen.grad is None
    for weight in tiny.parameters():
        if weight.requires_grad:
            assert weight.grad is not None
            assert torch.isfinite(weight.grad).all()
            assert weight.grad.abs().sum() > 0


@training
def test_just_the_declared_streams_are_read(name: str, tiny) -> None:
    given = batch()
    TRAINING[name].loss(tiny, given, start_of(TRAINING[name], tiny))
    assert given.read == set(TRAINING[name].streams)


@training
def test_parts_name_streams_and_denominators_that_exist(name: str, tiny) -> None:
    parts = TRAINING[name].loss(tiny, batch(), start_of(TRAINING[name], tiny))
    assert parts
    for part_name, part in parts.items():
        assert part_name.isidentifier()
        assert part.stream in TRAINING[name].streams
        assert part.per in ("token", "row")
        assert part.sum.shape == ()
        assert math.isfinite(part.weight)
        assert part.weight != 0


@training
def test_a_method_per_row_gives_the_values_of_its_rows(name: str, tiny) -> None:
    parts = TRAINING[name].loss(tiny, batch(), start_of(TRAINING[name], tiny))
    rows = {part_name for part_name, part in parts.items() if part.rows is not None}
    assert rows == ({*parts} - {"retain"} if TRAINING[name].per_row else set())
    assert len({parts[part_name].stream for part_name in rows}) <= 1
    for part_name in rows:
        assert parts[part_name].per == "row"
        assert parts[part_name].rows.shape == (2,)
        torch.testing.assert_close(parts[part_name].rows.sum(), parts[part_name].sum)


@training
def test_bf16_model_gives_a_finite_fp32_loss(name: str, tiny) -> None:
    value = loss(TRAINING[name], tiny.to(torch.bfloat16), batch())
    value.backward()
    assert value.dtype == torch.float32
    assert math.isfinite(value.item())
    assert all(torch.isfinite(weight.grad).all() for weight in trained(tiny))


@training
def test_same_seed_same_loss(name: str, tiny) -> None:
    for layer in tiny.model.layers:
        layer.self_attn.attention_dropout = 0.5
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(loss(TRAINING[name], tiny, batch()).item())
    assert values[0] == values[1]
    assert values[0] != values[2]


@training
def test_padding_changes_nothing(name: str, tiny) -> None:
    method = TRAINING[name]
    narrow, wide = loss(method, tiny, batch()).item(), loss(method, tiny, batch(width=17)).item()
    assert wide == pytest.approx(narrow, abs=1e-6, rel=0)


@training
def test_rows_may_be_split_into_micro_batches(name: str, tiny) -> None:
    tiny.double()
    method, denominators = TRAINING[name], counts(ENCODED)
    start = start_of(method, tiny)
    whole = loss(method, tiny, batch(), start=start).item()
    split = 0.0
    for i in range(2):
        one = Watched({stream: collate(rows[i : i + 1], pad_id=1) for stream, rows in ENCODED.items()})
        split += total_loss(method.loss(tiny, one, start), denominators).item()
    assert split == pytest.approx(whole, abs=1e-12)


@training
def test_rows_of_unpaired_streams_may_be_combined_with_any_others(name: str, tiny) -> None:
    tiny.double()
    method, denominators = TRAINING[name], counts(ENCODED)
    start = start_of(method, tiny)
    whole = loss(method, tiny, batch(), start=start).item()
    rows = {stream: ENCODED[stream] for stream in method.streams}
    parts = shard_token_batches(
        rows, rank=0, world=1, tokens=1, paired=method.paired
    )  # the longest row of each stream first
    split = 0.0
    for part in parts:
        one = Watched({stream: collate(each, pad_id=1) for stream, each in part.items()})
        split += total_loss(method.loss(tiny, one, start), denominators).item()
    assert len(parts) == 2
    assert split == pytest.approx(whole, abs=1e-12)


@training
def test_without_rows_the_loss_is_zero_with_a_gradient_of_zero(name: str, tiny) -> None:
    blank = Watched({stream: collate([], pad_id=1) for stream in ENCODED})
    value = loss(TRAINING[name], tiny, blank)
    value.backward()
    assert value.item() == 0
    assert all(not weight.grad.any() for weight in trained(tiny))


@training
def test_a_small_step_lowers_the_loss_and_moves_each_part_the_declared_way(name: str, tiny) -> None:
    method = TRAINING[name]
    tiny.double()
    start = start_of(method, tiny)
    first = method.loss(tiny, batch(), start)
    for part_name, part in first.items():  # a step on this part alone
        model = copy.deepcopy(tiny)
        before = method.loss(model, batch(), start)[part_name]
        (before.weight * before.sum).backward()
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in trained(model)])
        for weight in trained(model):
            weight.grad /= norm
        if part_name in method.surrogate:  # the nll of what it pushes at moves, its own value may not
            moved = change(model, lambda: answer_nll(model, batch()[part.stream]).sum().item())  # noqa: B023
        else:
            moved = change(model, lambda: method.loss(model, batch(), start)[part_name].sum.item())  # noqa: B023
        assert moved * part.weight < 0
    if method.surrogate:
        return
    denominators = counts(ENCODED)
    total_loss(method.loss(tiny, batch(), start), denominators).backward()
    assert change(tiny, lambda: total_loss(method.loss(tiny, batch(), start), denominators).item()) < 0


def change(model: torch.nn.Module, value: Callable[[], float]) -> float:
    """Descend by steps that grow until the value changes: a small one moves no score across the threshold of a mask."""
    before = value()
    for power in range(-3, 5):
        descend(model, 10.0**power)
        if value() != before:
            break
    return value() - before


def descend(model: torch.nn.Module, size: float = 1e-3) -> None:
    with torch.no_grad():
        for weight in trained(model):
            weight -= size * weight.grad


@pytest.mark.parametrize("name", STORED)
def test_only_what_the_method_selects_is_trained(name: str, tiny) -> None:
    method, model = STORED[name], tiny.double()  # in float32, a small step may round to nothing
    start = start_of(method, model)
    chosen = method.parameters(model)
    expected = {key for key, _ in (model.named_parameters() if chosen is None else chosen)}
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    loss_of = total_loss(method.loss(model, batch(), start), counts(ENCODED))
    loss_of.backward()
    descend(model)
    changed = {key for key, weight in model.named_parameters() if not torch.equal(weight, before[key])}
    assert changed == {key for key, _ in model.named_parameters() if key in expected}
    assert changed


@pytest.mark.parametrize("name", STORED)
def test_what_is_exported_and_loaded_answers_the_same(name: str, tiny, tmp_path) -> None:
    method = STORED[name]
    start_of(method, tiny)
    method.finalize(tiny, {key: weight.detach().clone() for key, weight in tiny.named_parameters()})
    method.export(tiny, tmp_path)
    assert (tmp_path / "config.json").is_file()
    loaded = method.load(tmp_path, dtype="float32", attention="sdpa")
    ids = batch()["forget"].input_ids_BT
    with torch.no_grad():
        said, again = (method.inference(model).eval()(input_ids=ids).logits for model in (tiny, loaded))
    assert torch.equal(said, again)


@training
def test_every_epoch_reads_streams_that_the_method_has(name: str) -> None:
    method = TRAINING[name]
    for epoch in range(3):
        assert method.phase(epoch)
        assert {*method.phase(epoch)} <= {*method.streams}
