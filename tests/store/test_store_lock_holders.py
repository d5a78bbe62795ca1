from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest

from meow_lightning.store.lock_holders import Holder

FAR = Holder(process=7, host="far", user="ada", since=0.0, job="")


def test_a_holder_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    here = Holder.here()
    here.write(tmp_path / "owner")
    assert Holder.read(tmp_path / "owner") == here
    assert (here.process, here.host, here.job) == (os.getpid(), socket.gethostname(), "99")
    assert str(here) == f"{os.getpid()}@{socket.gethostname()}"


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"{}", b'{"process": 1', b"no@", b"\xff\xfe", b"[]"])
def test_an_unreadable_holder_is_none(tmp_path, content):
    (tmp_path / "owner").write_bytes(content)
    assert Holder.read(tmp_path / "owner") is None
    assert Holder.read(tmp_path / "none") is None


def test_files_of_earlier_versions_are_read(tmp_path):
    (tmp_path / "owner").write_text("12@there")
    assert Holder.read(tmp_path / "owner") == Holder(process=12, host="there")


def test_a_process_is_stopped_between_stop_and_continue():
    with subprocess.Popen(["sleep", "60"]) as process:
        holder = Holder(process=process.pid, host=socket.gethostname())
        seen = [holder.stopped]
        for sign in (signal.SIGSTOP, signal.SIGCONT):
            os.kill(process.pid, sign)
            if sign is signal.SIGSTOP:
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            else:
                os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOWAIT)
            seen.append(holder.stopped)
        process.kill()
    assert seen == [False, True, False]
    assert not Holder(process=os.getpid(), host="elsewhere").stopped


def test_the_advice_depends_on_the_hardware():
    assert FAR.remedy() == "if it hangs, ssh far kill -KILL 7 hands over to the waiting run"
    job = Holder(process=7, host="far", job="99")
    assert job.remedy() == "if it hangs, scancel 99 hands over to the waiting run"
    assert job.described() == "process 7 on far (SLURM job 99)"
