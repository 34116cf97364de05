"""A folder has one owner, and nobody's death leaves it locked."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from m3jax.files import locks

HOLD = """
import sys, time
from m3jax.files import locks
with locks.owned(sys.argv[1], "wait"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that owns the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_owner_is_named_with_process_host_and_time(tmp_path, holder):
    with (
        pytest.raises(locks.InUseError) as refused,
        locks.owned(tmp_path, "take another --workdir"),
    ):
        pass
    text = str(refused.value)
    assert f"process {holder.pid} on {platform.node()} since 20" in text
    assert text.endswith("or take another --workdir")


def test_a_killed_owner_owns_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locks.owned(tmp_path, "wait"):
        told = json.loads((tmp_path / locks.LOCK).read_text())
        assert told["process"] == os.getpid()


def test_one_process_owns_a_folder_once(tmp_path):
    with (
        locks.owned(tmp_path, "wait"),
        pytest.raises(locks.InUseError),
        locks.owned(tmp_path, "wait"),
    ):
        pass
    with locks.owned(tmp_path, "wait"):
        pass


def test_a_child_that_outlives_its_parent_owns_nothing(tmp_path):
    with locks.owned(tmp_path, "wait"):
        (read, write), (ready, told) = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:  # waits until the test ends, having forgotten all about locks
            os.close(write)
            os.write(told, b"!")
            os.read(read, 1)
            os._exit(0)
        os.read(ready, 1)
    try:
        with locks.owned(tmp_path, "wait"):
            pass
    finally:
        for end in (read, write, ready, told):
            os.close(end)
        os.waitpid(child, 0)


def test_who_waits_comes_next(tmp_path):
    order = []

    def wait():
        with locks.waited_for(tmp_path):
            order.append("second")

    with locks.waited_for(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_torn_lock_file_still_refuses(tmp_path):
    with locks.owned(tmp_path, "wait"):
        (tmp_path / locks.LOCK).write_text('{"host"')
        with (
            pytest.raises(locks.InUseError, match="by another process"),
            locks.owned(tmp_path, "wait"),
        ):
            pass


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with pytest.warns(UserWarning, match="no locks"), locks.owned(tmp_path, "wait"):
        pass
