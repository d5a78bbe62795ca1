"""What the options of benchmarks are read by."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """The whole number from 1 that an option names."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
