"""Who holds a lock: written beside it, so that whoever waits can say for whom, and what to do where that one hangs."""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STOPPED = ("T", "t")  # states in /proc of a process that was stopped (SIGSTOP, Ctrl-Z) or that a debugger holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that has taken a lock.

    Attributes:
        process: Its number.
        host: The machine it runs on.
        user: Whose it is; empty where that is not known.
        since: When it took the lock, in seconds since 1970; 0 where that is not known.
        job: Its SLURM job; empty outside one.
    """

    process: int
    host: str
    user: str = ""
    since: float = 0.0
    job: str = ""

    @classmethod
    def here(cls) -> Holder:
        """The process that asks."""
        try:
            user = getpass.getuser()
        except (OSError, KeyError):  # a user number without a name, as containers have them
            user = str(os.getuid())
        return cls(
            process=os.getpid(), host=socket.gethostname(), user=user, since=time.time(),
            job=os.environ.get("SLURM_JOB_ID", ""),
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Who wrote a file last; ``None`` where there is none or it cannot be read."""
        try:
            text = path.read_text(encoding="utf-8")
            if not text.startswith("{"):  # as earlier versions wrote it
                process, _, host = text.partition("@")
                return cls(process=int(process), host=host)
            return cls(**json.loads(text))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write it down."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.process}@{self.host}"

    @property
    def near(self) -> bool:
        """Whether it runs on this machine."""
        return self.host == socket.gethostname()

    @property
    def stopped(self) -> bool:
        """Whether it is a process of this machine that was stopped and not continued."""
        try:
            status = Path(f"/proc/{self.process}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return self.near and status.rpartition(")")[2].split()[0] in STOPPED

    def described(self) -> str:
        """Process, host, user, job, and since when it holds the lock."""
        more = [f"user {self.user}"] * bool(self.user) + [f"SLURM job {self.job}"] * bool(self.job)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return (
            f"process {self.process} on {self.host}"
            + (f" ({', '.join(more)})" if more else "")
            + (f", since {since}" if self.since else "")
        )

    def remedy(self) -> str:
        """What a person can do about it; another run then goes on from what it left."""
        if self.near and self.stopped:
            return (
                f"it is stopped: kill -CONT {self.process} lets it go on, kill -KILL {self.process} hands over to "
                "whoever waits"
            )
        end = f"kill -KILL {self.process}" if self.near else f"ssh {self.host} kill -KILL {self.process}"
        return f"if it hangs, {f'scancel {self.job}' if self.job else end} hands over to whoever waits"
