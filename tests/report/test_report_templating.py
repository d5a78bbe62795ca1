from __future__ import annotations

import pytest
from jinja2 import TemplateNotFound, UndefinedError
from markupsafe import Markup

from meow_lightning.report.templating import environment, format_duration, mark_values, render_template, typeset


def test_plain_strings_are_escaped_and_markup_is_not() -> None:
    render = environment().from_string("{{ text }}|{{ html }}").render
    assert render(text='<b> & "', html=Markup("<b>")) == "&lt;b&gt; &amp; &#34;|<b>"


def test_templates_fail_on_missing_values() -> None:
    with pytest.raises(UndefinedError, match="ending"):
        render_template("rounds.html")
    with pytest.raises(TemplateNotFound):
        render_template("missing.html")


def test_every_spelling_of_a_value_that_counts_is_marked() -> None:
    assert mark_values("Art, party & ART", ("art",)) == "<mark>Art</mark>, party &amp; <mark>ART</mark>"
    assert mark_values("C++ <x>", ("C++",)) == "<mark>C++</mark> &lt;x&gt;"
    said = "On May 2nd, 1990 in <b>"
    assert mark_values(said, ("<b>", "1990-05-02")) == "On <mark>May 2nd, 1990</mark> in <mark>&lt;b&gt;</mark>"
    assert mark_values("<i>", ()) == "&lt;i&gt;"


def test_typeset_writes_minus_signs_and_powers() -> None:
    assert typeset("p = 4e-07 & -6.1, meow-s0") == "p = 4 × 10<sup>−7</sup> &amp; −6.1, meow-s0"


def test_typeset_escapes_what_it_does_not_set() -> None:
    assert typeset("<i>-1</i>") == "&lt;i&gt;−1&lt;/i&gt;"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (119.94, "119.9 s"), (120, "2.0 min"), (7199, "120.0 min"), (7200, "2.0 h")]
)
def test_durations_have_a_readable_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
