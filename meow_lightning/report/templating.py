"""Jinja2 templates of the report: every value is escaped unless it is explicitly ``Markup``."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from meow_lightning.data.examples import expected_texts
from meow_lightning.data.values.matching import any_value_pattern
from meow_lightning.report.changes import Span
from meow_lightning.report.style import sheet
from meow_lightning.report.svg import inline

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """Build the environment of ``templates/``: escaping is on, and undefined variables are errors."""
    # Imported here because a plan imports this module and renders nothing.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("meow_lightning.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "code_spans": code_spans,
        "duration": format_duration,
        "expected_texts": expected_texts,
        "inline_svg": inline,
        "mark_values": mark_values,
        "percent": "{:.0%}".format,
        "typeset": typeset,
    }
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    templates.globals |= {
        "style_sheet": Markup(sheet() + (TEMPLATES / "page.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "policy": content_policy(script),
    }
    return templates


def content_policy(script: str) -> str:
    """Build the Content-Security-Policy of a page: nothing is loaded, and no other script is executed.

    Args:
        script: The text of the page's only script element.
    """
    digest = b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def render_template(name: str, **context: Any) -> Markup:
    """Render a template of ``templates/`` as HTML that other templates insert unchanged.

    Args:
        name: File name.
        context: Values by the names that the template uses; plain strings are escaped.

    Raises:
        jinja2.UndefinedError: The template uses a name that ``context`` does not have.
    """
    # Safe to mark: the environment escaped all plain strings.
    return Markup(environment().get_template(name).render(context))


def code_spans(text: str) -> Markup:
    """Escape a text for HTML, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def typeset(text: str) -> Markup:
    """Escape a text for HTML, with typographic minus signs and powers of ten."""
    safe = re.sub(r"(?<![\w.])(-?[\d.]+)e([+-])0*(\d+)", _power, escape(text))
    return Markup(re.sub(r"(?<![\w.-])-(?=\d|inf\b)", "−", safe).replace("log10", "log<sub>10</sub>"))


def _power(match: re.Match[str]) -> str:
    """Render ``4e-07`` as four times ten to the minus seven."""
    return f"{match[1]} × 10<sup>{'−' if match[2] == '-' else ''}{match[3]}</sup>"


def mark_values(text: str, values: tuple[str, ...], changed: Sequence[Span] = (), tag: str = "ins") -> Markup:
    """Escape a text for HTML and mark every occurrence of the values, in any spelling that value accuracy accepts.

    Args:
        text: The text.
        values: The values to mark.
        changed: Ranges of characters to mark as changed besides, in order and without overlaps.
        tag: Element of the changed ranges: ``ins`` or ``del``.
    """
    spans = [match.span() for match in any_value_pattern(values).finditer(text)] if values else []
    pieces, end = [], 0
    for start, stop in spans:
        pieces += [
            _mark_changes(text, (end, start), changed, tag),
            Markup("<mark>{}</mark>").format(_mark_changes(text, (start, stop), changed, tag)),
        ]
        end = stop
    return Markup("").join([*pieces, _mark_changes(text, (end, len(text)), changed, tag)])


def _mark_changes(text: str, part: Span, changed: Sequence[Span], tag: str) -> Markup:
    """Escape one part of a text and put its changed ranges into elements."""
    pieces, (end, stop) = [], part
    for first, last in changed:
        low, high = max(first, end), min(last, stop)
        if low < high:
            pieces += [escape(text[end:low]), Markup(f"<{tag}>{{}}</{tag}>").format(text[low:high])]
            end = high
    return Markup("").join([*pieces, escape(text[end:stop])])


def format_duration(seconds: float) -> str:
    """Format seconds in a readable unit."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
