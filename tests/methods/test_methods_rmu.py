from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate
from meow_lightning.errors import UserError
from meow_lightning.methods.rmu import Rmu
from meow_lightning.models.frozen_view import FrozenView
from meow_lightning.models.layers import decoder_layers, hidden_states
from meow_lightning.models.lora import enable_checkpointing, with_lora, without_adapters
from meow_lightning.models.tiny import llama
from meow_lightning.training.module import total_loss
from meow_lightning.training.preparation import prepare_method
from meow_lightning.types import Encoded

EMBEDDED = [[9.0, 9.0], [1.0, 0.0], [0.0, 2.0]]
STREAMS = {"forget": [Encoded((0, 1, 2), 1)], "retain": [Encoded((1, 1, 0), 2)]}


class Shift(torch.nn.Module):
    """A decoder layer that adds a vector; like some of transformers' it hands a tuple on."""

    def __init__(self, by: list[float], calls: list[str], name: str) -> None:
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(by, dtype=torch.float64))
        # more experts than there are layers
        self.experts = torch.nn.ModuleList(torch.nn.Identity() for _ in range(5))
        self.calls, self.name = calls, name

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor]:
        self.calls.append(self.name)
        return (hidden + self.by,)


class Toy(torch.nn.Module):
    """Embeds tokens in the plane, shifts them layer by layer, and has a head."""

    def __init__(self, *shifts: list[float]) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.extra = torch.nn.ModuleList([torch.nn.Identity()])
        self.embed = torch.nn.Parameter(torch.tensor(EMBEDDED, dtype=torch.float64))
        self.layers = torch.nn.ModuleList(Shift(by, self.calls, str(i)) for i, by in enumerate(shifts))
        self.head = torch.nn.Linear(2, 3, dtype=torch.float64)

    def forward(self, *, input_ids: torch.Tensor, **unused: Any) -> SimpleNamespace:
        hidden = self.embed[input_ids]
        for layer in self.layers:
            (hidden,) = layer(hidden)
        self.calls.append("head")
        return SimpleNamespace(logits=self.head(hidden))


def rmu(*, layer: int = 0, steering: float = 2.0, retain_weight: float = 1.0, weights: str | None = None) -> Rmu:
    return Rmu(layer=layer, steering=steering, retain_weight=retain_weight, weights=weights)


def prepared(method: Rmu, model: torch.nn.Module, seed: int) -> None:
    training = model.training
    prepare_method(
        method, model, rows={}, seed=seed, pad_id=1, micro_batch_size=1, micro_batch_tokens=None, may_attach=True
    )  # fmt: skip
    model.train(training)


@pytest.fixture
def batch(to_rows):
    return {name: to_rows([(list(row.ids), row.prompt) for row in rows]) for name, rows in STREAMS.items()}


def parts_of(method: Rmu, model: torch.nn.Module, batch: Any, start: torch.nn.Module, seed: int = 0) -> dict:
    prepared(method, model, seed)
    return method.loss(model, batch, start)


def test_the_forget_term_is_the_distance_to_the_steered_direction(batch) -> None:
    model = Toy([1.0, 1.0], [50.0, 50.0])
    # At tokens 1 and 2 the first layer puts out (2, 1) and (1, 3). With c = 0: (5 + 10) / 2 dimensions.
    assert parts_of(rmu(steering=0.0), model, batch, model)["forget"].sum.item() == pytest.approx(7.5)
    u = torch.rand(2, generator=torch.Generator().manual_seed(4))
    a, b = (3.0 * u / u.norm()).tolist()
    expected = ((2 - a) ** 2 + (1 - b) ** 2 + (1 - a) ** 2 + (3 - b) ** 2) / 2
    assert parts_of(rmu(steering=3.0), model, batch, model, 4)["forget"].sum.item() == pytest.approx(expected)


def test_the_retain_term_is_the_distance_to_the_start_model(batch) -> None:
    model, start = Toy([1.0, 1.0], [50.0, 50.0]), Toy([0.0, -2.0], [0.0, 0.0])
    # One answer token, moved by (1, 3): (1 + 9) / 2. Forget: 7.5 over two tokens.
    parts = parts_of(rmu(steering=0.0, retain_weight=10.0), model, batch, start)
    assert parts["retain"].sum.item() == pytest.approx(5.0)
    total = total_loss(parts, counts(STREAMS))
    assert total.item() == pytest.approx(3.75 + 50.0)
    total.backward()
    # d/d shift: forget (2 + 1, 1 + 3) / 2 tokens, retain 10 * (1, 3), both times 2 / 2 dimensions
    assert model.layers[0].by.grad.tolist() == pytest.approx([1.5 + 10.0, 2.0 + 30.0])
    assert start.layers[0].by.grad is None


def test_no_layer_above_runs_and_no_hook_stays(batch) -> None:
    model, start = Toy([1.0, 1.0], [5.0, 5.0], [5.0, 5.0]), Toy([1.0, 1.0], [0.0, 0.0], [0.0, 0.0])
    method = rmu(layer=1)
    prepared(method, model, 0)
    model.calls.clear()
    method.loss(model, batch, start)
    assert model.calls == ["0", "1", "0", "1"]  # forget and retain
    assert start.calls == ["0", "1"]
    model.calls.clear()
    model(input_ids=batch["forget"].input_ids_BT)
    assert model.calls == ["0", "1", "2", "head"]


def test_weights_above_the_layer_are_frozen_and_frozen_ones_stay_so() -> None:
    model = Toy([1.0, 1.0], [5.0, 5.0], [5.0, 5.0])
    model.embed.requires_grad_(False)
    prepared(rmu(layer=1), model, 0)
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == ["layers.0.by", "layers.1.by"]
    assert all(weight.grad is None for weight in model.parameters())


def test_chosen_matrices_alone_are_trained(to_rows) -> None:
    model, start = deep(), deep().eval().requires_grad_(False)
    method = rmu(layer=1, weights=r"layers\.(0|1|2)\.mlp\.down_proj")
    prepared(method, model, 0)
    chosen = [f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)]  # the layer above does not run
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == chosen
    streams = {name: rows_of(to_rows) for name in STREAMS}
    total_loss(method.loss(model, streams, start), counts(STREAMS)).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert list(gradients) == chosen
    every = deep()
    whole = rmu(layer=1)
    prepared(whole, every, 0)
    total_loss(whole.loss(every, streams, start), counts(STREAMS)).backward()
    weights = dict(every.named_parameters())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, weights[name].grad)  # the same loss


def test_weights_that_no_name_contains_are_refused() -> None:
    with pytest.raises(UserError, match=r"^method\.weights=down_prj is invalid: .*layers\.0\.by"):
        prepared(rmu(weights="down_prj"), Toy([1.0, 1.0], [5.0, 5.0]), 0)
    with pytest.raises(UserError, match=r"^method\.weights=layers\.\( is invalid: expected a regular expression"):
        rmu(weights="layers.(")


def test_a_model_of_fewer_layers_takes_its_last(batch) -> None:
    model = Toy([1.0, 1.0], [0.0, 1.0])
    # (2, 2) and (1, 4): (8 + 17) / 2
    assert parts_of(rmu(layer=7, steering=0.0), model, batch, model)["forget"].sum.item() == pytest.approx(12.5)


def test_the_direction_is_a_positive_unit_vector_of_the_seed_alone(tiny) -> None:
    found = []
    for seed, world in ((3, 0), (3, 1), (4, 1)):
        torch.manual_seed(world)
        state = torch.get_rng_state()
        method = rmu()
        prepared(method, tiny, seed)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(method._direction)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert found[0].shape == (16,)
    assert found[0].norm().item() == pytest.approx(1)
    assert (found[0] >= 0).all()
    assert tiny.training


@pytest.mark.parametrize("pad_id", [0, 1])
def test_prompts_and_padding_do_not_count(to_rows, batch, pad_id: int) -> None:
    model = Toy([1.0, 1.0], [0.0, 0.0])
    wide = {
        name: to_rows([(list(row.ids), row.prompt) for row in rows], width=6, pad_id=pad_id)
        for name, rows in STREAMS.items()
    }
    start = Toy([0.0, 1.0], [0.0, 0.0])
    narrow, other = parts_of(rmu(), model, batch, start), parts_of(rmu(), model, wide, start)
    assert {name: part.sum.item() for name, part in other.items()} == {
        name: pytest.approx(part.sum.item()) for name, part in narrow.items()
    }


def test_blank_rows_count_nothing(tiny) -> None:
    blank = {name: collate([], pad_id=1) for name in STREAMS}
    parts = parts_of(rmu(), tiny, blank, tiny)
    assert [part.sum.item() for part in parts.values()] == [0, 0]
    total_loss(parts, counts(STREAMS)).backward()
    assert not any(weight.grad.any() for weight in tiny.parameters() if weight.requires_grad)


def deep() -> torch.nn.Module:
    torch.manual_seed(0)
    return llama(
        vocab_size=50, hidden_size=16, layers=3, heads=2, intermediate_size=32, context=64, end_id=0, pad_id=1
    ).train()


def rows_of(to_rows) -> Any:
    return to_rows([([5, 6, 7, 8], 2), ([9, 10], 1)], pad_id=1)


@pytest.mark.parametrize("layer", [0, 1])
def test_hidden_states_are_those_that_transformers_names(to_rows, layer: int) -> None:
    model, rows = deep(), rows_of(to_rows)
    found = hidden_states(model, rows, layers=decoder_layers(model), layer=layer)
    said = model(
        input_ids=rows.input_ids_BT, attention_mask=rows.attention_mask_BT, output_hidden_states=True
    ).hidden_states
    torch.testing.assert_close(found, said[layer + 1][rows.loss_mask_BT.bool()])


def test_hidden_states_are_in_fp32(to_rows) -> None:
    model = deep().to(torch.bfloat16)
    hidden = hidden_states(model, rows_of(to_rows), layers=decoder_layers(model), layer=1)
    assert hidden.dtype == torch.float32


def test_checkpointing_changes_no_gradient(to_rows) -> None:
    found = []
    for checkpointing in (False, True):
        model, start = deep(), deep().eval().requires_grad_(False)
        method = rmu(layer=1)
        prepared(method, model, 0)
        if checkpointing:
            enable_checkpointing(model)
        streams = {name: rows_of(to_rows) for name in STREAMS}
        sum(part.sum for part in method.loss(model, streams, start).values()).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
        ids = torch.tensor([[5, 6]])
        model(input_ids=ids).logits.sum().backward()  # still a model that can be trained
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_below_learn_and_the_start_model_is_the_one_without_them(to_rows, checkpointing: bool) -> None:
    model = with_lora(deep(), rank=2, alpha=4.0, dropout=0.0, seed=0)
    method = rmu(layer=1)
    prepared(method, model, 0)
    if checkpointing:
        enable_checkpointing(model)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name and (".layers.0." in name or ".layers.1." in name) for name in trained)
    batch = {name: rows_of(to_rows) for name in STREAMS}
    first = method.loss(model, batch, FrozenView(model, without_adapters))
    assert first["retain"].sum.item() == 0
    first["forget"].sum.backward()
    assert all(weight.grad is not None for weight in trained.values())
    with torch.no_grad():
        for name, weight in trained.items():
            weight += 0.1 * ("lora_B" in name)
    moved = method.loss(model, batch, FrozenView(model, without_adapters))
    assert moved["retain"].sum.item() > 0
    assert moved["forget"].sum.item() != first["forget"].sum.item()


def test_lists_within_layers_are_not_the_layers() -> None:
    model = Toy([0.0, 0.0], [0.0, 0.0])
    assert decoder_layers(model) == list(model.layers)
    assert decoder_layers(torch.nn.Linear(1, 1)) == []


def test_a_model_without_layers_is_reported(table_lm, batch) -> None:
    with pytest.raises(ValueError, match=r"^TableLM has no list of decoder layers$"):
        prepared(rmu(), table_lm([[0.0, 0.0, 0.0]] * 3), 0)


def test_a_layer_that_is_not_called_is_reported(batch) -> None:
    model = Toy([0.0, 0.0])
    with pytest.raises(ValueError, match=r"^Toy did not call its decoder layer 0$"):
        hidden_states(model, batch["forget"], layers=[torch.nn.Identity()], layer=0)


def test_options_that_come_first(batch) -> None:
    with pytest.raises(TypeError, match=r"^RMU needs the start model: the method's reference must be 'model'$"):
        rmu().loss(Toy([0.0, 0.0]), batch, None)
    with pytest.raises(ValueError, match=r"^RMU has no direction yet: call prepare\(\) before the first loss$"):
        rmu().loss(Toy([0.0, 0.0]), batch, Toy([0.0, 0.0]))


def test_a_layer_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"^method\.layer=-1 is invalid: .*\(published: 7\)\. Did you mean 0\?$"):
        rmu(layer=-1)
