"""Lock holders: recorded beside the lock, so that waiting processes can name them and suggest how to stop them."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STOPPED = ("T", "t")  # /proc states of a process that is stopped (SIGSTOP, Ctrl-Z) or traced by a debugger


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that has acquired a lock.

    Attributes:
        process: Process id.
        host: Its machine.
        user: Its user; empty if unknown.
        since: When it acquired the lock, in seconds since 1970; 0 if unknown.
        job: Its SLURM job; empty outside one.
    """

    process: int
    host: str
    user: str = ""
    since: float = 0.0
    job: str = ""

    @classmethod
    def here(cls) -> Holder:
        """Return this process."""
        try:
            user = getpass.getuser()
        except (OSError, KeyError):  # user ids without a name, as in containers
            user = str(os.getuid())
        return cls(
            process=os.getpid(), host=socket.gethostname(), user=user, since=time.time(),
            job=os.environ.get("SLURM_JOB_ID", ""),
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Read the last recorded holder; ``None`` if the file is missing or unreadable."""
        try:
            text = path.read_text(encoding="utf-8")
            if not text.startswith("{"):  # format of earlier versions
                process, _, host = text.partition("@")
                return cls(process=int(process), host=host)
            return cls(**json.loads(text))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Record the holder."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.process}@{self.host}"

    @property
    def near(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    @property
    def stopped(self) -> bool:
        """Whether it is a stopped process of this machine."""
        try:
            status = Path(f"/proc/{self.process}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return self.near and status.rpartition(")")[2].split()[0] in STOPPED

    def described(self) -> str:
        """Describe process, host, user, job, and since when it has held the lock."""
        more = [f"user {self.user}"] * bool(self.user) + [f"SLURM job {self.job}"] * bool(self.job)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return (
            f"process {self.process} on {self.host}"
            + (f" ({', '.join(more)})" if more else "")
            + (f", since {since}" if self.since else "")
        )

    def remedy(self, effect: str = "hands over to the waiting run") -> str:
        """Suggest how to stop it; another run then continues from its partial work.

        Args:
            effect: The effect of killing it.
        """
        if self.near and self.stopped:
            return f"it is stopped: kill -CONT {self.process} resumes it, kill -KILL {self.process} {effect}"
        end = f"kill -KILL {self.process}" if self.near else f"ssh {self.host} kill -KILL {self.process}"
        return f"if it hangs, {f'scancel {self.job}' if self.job else end} {effect}"
