"""finetune: a model and rows in, a model that has learned them out. Makes base, target and retain model alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.config import build
from meow_lightning.data.rows import encode, pairs
from meow_lightning.parallel import barrier, rank
from meow_lightning.stages.shared import codec, dataset, learner, optim, save, train, trained_dtype, unchanged
from meow_lightning.stages.work import Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from meow_lightning.data.plan import Plan
    from meow_lightning.data.prompts import Codec

VERSION = 4
MAKES = ("model/config.json", "model/tokenizer_config.json")


def run(work: Work) -> None:
    """Write ``model/``: links to a given model, or one trained from scratch, or the needed one fine-tuned."""
    if "given" in work.settings:
        return _take(work)
    from meow_lightning.methods.learn import Learn
    from meow_lightning.module import TrainingModule

    model, its_codec = _scratch(work) if "start" not in work.needs else learner(work, work.needs["start"] / "model")
    plan = _plan(work, its_codec)
    model.train()
    module = TrainingModule(
        model=model, method=Learn(), plan=plan, optim=optim(work.settings["recipe"], plan),
        log_every=work.runtime.log_every, reference=None,
    )  # fmt: skip
    model = train(work, module, pad_id=its_codec.pad_id, callbacks=[])
    return save(work, model, its_codec)


def _take(work: Work) -> None:
    """Link the files of a model that is there already, after holding model and tokenizer together."""
    from meow_lightning.models.given import check, link
    from meow_lightning.models.load import readable
    from meow_lightning.models.source import identity, locate, parse
    from meow_lightning.models.whole import check_stored

    places, folder = work.inputs["given"], work.folder / "model"
    option = places["option"]
    weights = locate(parse(option, places["weights"], words=()), weights=True, fetch=False)
    tokenizer = locate(parse("model.tokenizer", places["tokenizer"], words=()), weights=False, fetch=False)
    check(option, weights, tokenizer)
    memory = work.folder.parent.parent / ".digests.json"
    for name, folder_ in (("weights", weights), ("tokenizer", tokenizer)):
        if rank() == 0 and "@" not in work.settings["given"][name]:
            unchanged(
                places[name],
                identity(parse(option, str(folder_), words=()), memory=memory),
                work.settings["given"][name],
            )
    if rank() == 0:
        link(weights, tokenizer, folder)
        # What cannot be asked is said now, not after the other models are trained.
        name = f"{option}={places['weights']}"
        check_stored(folder, name=name)
        for note in readable(folder, folder, name=name).codec(work.settings["prompt"]).notes:
            work.note(f"{name}: {note}")
    barrier(work.runtime.accelerator)


def _scratch(work: Work) -> tuple[PreTrainedModel, Codec]:
    import torch

    from meow_lightning.models.load import dtype_of
    from meow_lightning.models.tiny import tokenizer_from
    from meow_lightning.models.vocabulary import pieces

    texts = pieces(dataset(work).texts(), work.settings["model"]["prompt"])
    tokenizer = tokenizer_from(texts, vocab_size=work.settings["vocab_size"])
    torch.manual_seed(work.settings["seed"])
    model = build(
        work.settings["architecture"], allow=work.inputs["allow"], vocab_size=len(tokenizer),
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    ).to(dtype_of(trained_dtype(work)))  # fmt: skip
    tokens = work.folder / "tokenizer"
    tokenizer.save_pretrained(tokens)
    return model, codec(work, tokens, model)


def _plan(work: Work, its_codec: Codec) -> Plan:
    from meow_lightning.data.plan import Plan, Stream

    recipe, seed, source = work.settings["recipe"], work.settings["seed"], dataset(work)
    fresh: list[list] = []
    if work.settings["splits"]:
        rows = encode(its_codec, pairs(fact for split in work.settings["splits"] for fact in source.facts(split)))
        if recipe["replay"]:
            again = encode(its_codec, pairs(source.stream(recipe["replay"] * recipe["epochs"], seed + 1)))
            fresh = [again[i * recipe["replay"] : (i + 1) * recipe["replay"]] for i in range(recipe["epochs"])]
    else:
        rows = encode(its_codec, pairs(source.stream(recipe["rows"], seed)))
    stream = Stream(rows=rows, fresh=fresh)
    return Plan(
        streams={"learn": stream}, batch=recipe["batch"], tokens=None, epochs=recipe["epochs"], seed=seed, paired=()
    )
