"""Bytes and durations as people read them."""

from __future__ import annotations


def format_bytes(size: float) -> str:
    """Bytes in words with one decimal, decimal as disks and model hubs count: 1 GB = 10^9 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < (1000 if unit == "B" else 999.95):
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_duration(seconds: float) -> str:
    """A time in words: "40 s", "2 min", "about 3 h", "about 4 days"; the next unit begins at one and a half of it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"about {seconds / 3600:.0f} h"
    return f"about {seconds / 86400:.0f} days"
