"""Jinja2 templates of the report: every value is escaped unless it is explicitly ``Markup``."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from meow_lightning.data.values.matching import any_value_pattern
from meow_lightning.report.svg import inline

if TYPE_CHECKING:
    from jinja2 import Environment


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
        "duration": format_duration,
        "inline_svg": inline,
        "mark_values": mark_values,
        "percent": "{:.0%}".format,
        "typeset": typeset,
    }
    return templates


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


def typeset(text: str) -> Markup:
    """Escape a text for HTML, with typographic minus signs and powers of ten."""
    safe = re.sub(r"(?<![\w.])(-?[\d.]+)e([+-])0*(\d+)", _power, escape(text))
    return Markup(re.sub(r"(?<![\w.-])-(?=\d|inf\b)", "−", safe).replace("log10", "log<sub>10</sub>"))


def _power(match: re.Match[str]) -> str:
    """Render ``4e-07`` as four times ten to the minus seven."""
    return f"{match[1]} × 10<sup>{'−' if match[2] == '-' else ''}{match[3]}</sup>"


def mark_values(text: str, values: tuple[str, ...]) -> Markup:
    """Escape a text for HTML and mark every occurrence of the values, in any spelling that value accuracy accepts."""
    if not values:
        return escape(text)
    pieces, end = [], 0
    for match in any_value_pattern(values).finditer(text):
        pieces += [escape(text[end : match.start()]), Markup("<mark>{}</mark>").format(match.group())]
        end = match.end()
    return Markup("").join([*pieces, text[end:]])


def format_duration(seconds: float) -> str:
    """Format seconds in a readable unit."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
