"""MkDocs hook that shows the cross-reference roles of docstrings, such as ``:class:``, as plain code."""

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):<code>(~?)([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Replace each role by its name as code; with ``~``, only the last part of the name is kept.

    Args:
        html: The rendered page.
    """
    return _ROLE.sub(
        lambda found: f"<code>{found[2].rpartition('.')[2] if found[1] else found[2].lstrip('.')}</code>", html
    )
