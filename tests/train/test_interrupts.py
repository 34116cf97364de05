"""A signal ends a command in one line, wherever it is; the same again, at once."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from m3jax.train import interrupts

ROOT = pathlib.Path(__file__).parents[2]
TAKEN_OVER = "from m3jax.train import interrupts\ninterrupts.take_over()\n"
SAVING = (
    TAKEN_OVER
    + """
import sys, time
with interrupts.Watch() as watch, interrupts.keeps("step 3 is saved"):
    print("ready", flush=True)
    while watch.received is None:
        time.sleep(0.01)
    print("saving", flush=True)
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end:  # a save does not look at signals
        pass
    print("saved", flush=True)
interrupts.ending()
print(interrupts.Interrupted(watch.received, 4, "runs/x"), file=sys.stderr)
sys.exit(128 + watch.received)
"""
)


def start(code, *argv):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def expect(process, line):
    assert process.stdout.readline() == f"{line}\n"


def ended(process, timeout=20):
    """Exit code, and the lines of standard error."""
    _, err = process.communicate(timeout=timeout)
    return process.returncode, err.splitlines()


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_where_nothing_watches_a_command_is_gone_in_one_line(number):
    code = TAKEN_OVER + (
        "import time\n"
        "with interrupts.keeps('3 of 4 units are kept'):\n"
        "  print('ready', flush=True)\n"
        "  time.sleep(60)\n"
    )
    with start(code) as process:
        expect(process, "ready")
        process.send_signal(number)
        assert ended(process) == (
            128 + number,
            [f"stopped by {number.name}: 3 of 4 units are kept"],
        )


def test_a_library_that_is_busy_and_swallows_all_exceptions_does_not_hold_it_up():
    """As XLA while it compiles, and as callbacks of C++ do with what is raised."""
    code = TAKEN_OVER + (
        "import hashlib\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "  try:\n"
        "    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 20_000_000)\n"
        "  except BaseException:\n"
        "    pass\n"
    )
    with start(code) as process:
        expect(process, "ready")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        code, lines = ended(process)
    assert (code, lines) == (130, ["stopped by SIGINT: nothing was written"])
    assert time.monotonic() - began < 2.0


def test_a_save_goes_on_through_another_signal_but_not_through_the_same():
    with start(SAVING, 0.5) as process:
        expect(process, "ready")
        process.send_signal(signal.SIGTERM)
        expect(process, "saving")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        expect(process, "saved")
        code, lines = ended(process)
        assert code == 128 + signal.SIGTERM
        assert len(lines) == 1 and "stopped by SIGTERM after step 4" in lines[0]
    with start(SAVING, 60) as process:
        expect(process, "ready")
        process.send_signal(signal.SIGTERM)
        expect(process, "saving")
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (
            128 + signal.SIGTERM,
            ["left at once: SIGTERM came twice: step 3 is saved"],
        )


def test_nohup_holds():
    code = (
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        + TAKEN_OVER
        + "signal.raise_signal(signal.SIGHUP)\n"
        "with interrupts.Watch() as watch: signal.raise_signal(signal.SIGHUP)\n"
        "print(watch.received)\n"
    )
    with start(code) as process:
        expect(process, "None")
        assert ended(process) == (0, [])


def test_a_server_of_its_own_ways_gets_its_signals():
    code = TAKEN_OVER + (
        "import time\n"
        "with interrupts.handed_over():\n"
        "  try:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "  except KeyboardInterrupt:\n"
        "    print('drained', flush=True)\n"
    )
    with start(code) as process:
        expect(process, "ready")
        process.send_signal(signal.SIGINT)
        expect(process, "drained")
        assert ended(process) == (0, [])


def test_what_a_command_started_ends_with_it():
    code = TAKEN_OVER + (
        "import multiprocessing, time\n"
        "child = multiprocessing.get_context('fork').Process(\n"
        "    target=time.sleep, args=(60,), daemon=True)\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with start(code) as process:
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        ended(process)
    assert wait_until_gone(child)


def wait_until_gone(pid, seconds=10.0):
    """Whether a process ends in time; one that nobody waited for counts as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="needs /proc")
def test_a_worker_ends_with_its_runner_however_it_ends(tmp_path):
    script = tmp_path / "runner.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from m3jax.train import orphans\n"
        "def work():\n"
        "  orphans.end_with_parent()\n"
        "  print('at work', flush=True)\n"
        "  time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "  child = multiprocessing.get_context('spawn').Process(target=work)\n"
        "  child.start()\n"
        "  print(child.pid, flush=True)\n"
        "  time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        child = int(process.stdout.readline())
        assert process.stdout.readline() == "at work\n"
        process.kill()
    assert wait_until_gone(child)


def test_a_library_call_gives_an_impatient_user_back_what_was_there():
    calls = []
    before = signal.signal(signal.SIGTERM, lambda *args: calls.append(args))
    try:
        with interrupts.Watch() as watch:
            signal.raise_signal(signal.SIGTERM)
            assert watch.received == signal.SIGTERM and not calls
            signal.raise_signal(signal.SIGTERM)
            assert len(calls) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
