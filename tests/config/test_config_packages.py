"""Versions of packages that only some options need."""

from __future__ import annotations

import pytest

from meow_lightning.config.packages import package_versions
from meow_lightning.errors import UserError
from meow_lightning.evaluation.known_judge import PACKAGES

FOR_NLG = {"option": "ability.local.nlg", "extra": "nlg", "instead": "ability=none"}
FOR_PROBE = {"option": "probe=slim", "extra": "probe", "instead": "probe=none"}


def test_the_versions_of_installed_packages() -> None:
    assert package_versions(["sacrebleu"], **FOR_NLG).keys() == {"sacrebleu"}
    assert {*package_versions(PACKAGES, **FOR_PROBE)} == {"scikit-learn", "bm25s"}


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        (
            FOR_NLG,
            r"^ability\.local\.nlg needs no-such-package: pip install 'meow-lightning\[nlg\]', or set ability=none$",
        ),
        (FOR_PROBE, r"^probe=slim needs no-such-package: pip install 'meow-lightning\[probe\]', or set probe=none$"),
    ],
)
def test_a_missing_package_names_the_extra_and_the_option_without_it(needs: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        package_versions(["sacrebleu", "no-such-package"], **needs)
