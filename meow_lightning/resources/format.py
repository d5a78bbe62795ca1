"""Human-readable bytes and durations."""

from __future__ import annotations


def format_bytes(size: float) -> str:
    """Format bytes with one decimal, in decimal units as disks and model hubs do: 1 GB = 10^9 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < (1000 if unit == "B" else 999.95):
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def format_duration(seconds: float) -> str:
    """Format a duration: "40 s", "2 min", "about 3 h", "about 4 days"; units change at one and a half of the next."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"about {seconds / 3600:.0f} h"
    return f"about {seconds / 86400:.0f} days"
