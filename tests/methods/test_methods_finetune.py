from __future__ import annotations

from meow_lightning.methods.finetune import FineTune, FineTuneUntilKnown


def after(losses: list[float], **changes: float) -> list[bool]:
    wish = {"known": 0.25, "steps_per_epoch": 2, "least": 0, **changes}
    method = FineTuneUntilKnown(**wish)  # type: ignore[arg-type]
    found = []
    for loss in losses:
        method.on_step_end({"learn": loss})
        found.append(method.done)
    return found


def test_it_ends_with_the_first_epoch_whose_mean_loss_is_low_enough_by_hand() -> None:
    # means of the epochs: 0.75, 0.3, 0.25
    assert after([1.0, 0.5, 0.2, 0.4, 0.3, 0.2]) == [False, False, False, False, False, True]


def test_a_low_step_within_an_epoch_ends_nothing() -> None:
    assert after([1.0, 0.0, 0.0]) == [False, False, False]


def test_it_never_ends_before_its_least_steps() -> None:
    assert after([0.0] * 6, least=4) == [False, False, False, True, False, True]


def test_a_resumed_one_goes_on_from_its_state() -> None:
    first = FineTuneUntilKnown(known=0.25, steps_per_epoch=2, least=0)
    first.on_step_end({"learn": 0.5})
    second = FineTuneUntilKnown(known=0.25, steps_per_epoch=2, least=0)
    second.load_state_dict(first.state_dict())
    second.on_step_end({"learn": 0.0})
    assert second.done
    assert not FineTune().done
