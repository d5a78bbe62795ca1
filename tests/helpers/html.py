"""HTML as a browser reads it, for tests of pages."""

from __future__ import annotations


def compact(html: str) -> str:
    """Collapse runs of white space to one blank, and remove those between two tags."""
    return " ".join(html.split()).replace("> <", "><")
