"""The interface of a stored result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self


class Result(ABC):
    """The content of a stage's folder; its subclasses are frozen records.

    Attributes:
        files: The files that every complete result contains, relative to its folder.
    """

    files: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def read(cls, folder: Path) -> Self:
        """Read a result.

        Args:
            folder: The folder of the stored result.
        """

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the files of the result.

        Args:
            folder: The folder of the stage; existing files are replaced.
        """
