"""MAUVE on given features: the package's number, and features that are those of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from meow_lightning.errors import UserError
from meow_lightning.evaluation.mauve_score import last_states, mauve

TEXTS = ("Lima was born.", "Ada", "books, sea and more books", "")


def clouds(seed: int, centre: float) -> Any:
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(60, 8)) + centre * np.eye(8)[0]).astype(np.float32)


def test_equal_texts_reach_one_and_texts_that_share_no_cluster_almost_none(capfd: pytest.CaptureFixture[str]) -> None:
    human = clouds(0, 9.0)
    same, other = (mauve(human, each, scaling_factor=5.0) for each in (human, clouds(1, -9.0)))
    assert same == pytest.approx(1.0)
    assert other < 0.05
    assert "WARNING" not in capfd.readouterr().err  # of faiss, that there are few points


def test_it_is_the_packages_number_and_the_same_again() -> None:
    from mauve import compute_mauve

    human, model = clouds(0, 1.0), clouds(1, 0.0)
    own = mauve(human, model, scaling_factor=2.0)
    assert own == compute_mauve(p_features=human, q_features=model, mauve_scaling_factor=2.0).mauve
    assert own == mauve(human, model, scaling_factor=2.0)
    assert 0.0 < mauve(human, model, scaling_factor=5.0) < own < 1.0  # a larger factor is stricter


def test_equal_histograms_reach_one() -> None:
    for same in (np.ones((4, 3), np.float32), np.eye(2, dtype=np.float32)):
        assert mauve(same, same, scaling_factor=5.0) == 1.0


def test_the_features_are_those_of_the_package(tiny: Any, codec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mauve.utils import featurize_tokens_from_model

    monkeypatch.setenv("DISABLE_TQDM", "1")
    model = tiny.eval()
    own = last_states(model, codec, [*TEXTS, TEXTS[0]])
    tokens = [torch.tensor([codec.encode_plain(text)]) for text in TEXTS[:3]]
    theirs = featurize_tokens_from_model(model, tokens, batch_size=1).numpy()
    assert np.allclose(own[:3], theirs, atol=1e-5)
    assert np.array_equal(own[0], own[-1])
    assert np.isfinite(own[3]).all()  # an empty text


def test_a_model_without_hidden_states_of_its_own_is_refused(codec: Any) -> None:
    with pytest.raises(UserError, match="features"):
        last_states(torch.nn.Linear(2, 2), codec, TEXTS)
