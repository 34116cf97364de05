"""Runs launchers, each in a fresh fork of one process that has imported everything.

A launcher parses its flags once per process, and importing JAX takes seconds; so this
program imports first and forks for each request. It reads JSON lines from standard
input: ``{"script", "argv", "environ", "cwd"}`` starts a launcher and is answered with
``{"process"}``; ``{"process"}`` waits for it and is answered with ``{"code", "out",
"err"}``.
"""

import json
import os
import pathlib
import runpy
import sys
import tempfile
import traceback
from typing import IO

ROOT = pathlib.Path(__file__).parents[1]


def main() -> None:
    """Serves until standard input ends."""
    _import_everything()
    print("ready", flush=True)
    files = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "process" in request:
            answer = _end(request["process"], files.pop(request["process"]))
        else:
            process, written = _start(**request)
            files[process], answer = written, {"process": process}
        print(json.dumps(answer), flush=True)


def _import_everything() -> None:
    from ml_collections import config_flags  # noqa: F401

    from m3jax import studies  # noqa: F401
    from m3jax.experiments import sweeping  # noqa: F401
    from m3jax.foundation import audit  # noqa: F401
    from m3jax.systems.m3llm.study import whole  # noqa: F401
    from m3jax.systems.tokcom.study import whole as tokcom  # noqa: F401


def _start(
    script: str, argv: list[str], environ: dict[str, str], cwd: str = str(ROOT)
) -> tuple[int, list[IO[str]]]:
    """Forks; gives the process and the files that it writes to."""
    out, err = (tempfile.TemporaryFile("w+") for _ in range(2))
    child = os.fork()
    if child == 0:
        os.setsid()  # a group of its own, as in a shell
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.environ |= environ
        os.chdir(cwd)
        os._exit(_run(script, argv))
    return child, [out, err]


def _end(child: int, files: list[IO[str]]) -> dict:
    """Waits for a process."""
    _, status = os.waitpid(child, 0)
    texts = []
    for file in files:
        with file:
            file.seek(0)
            texts.append(file.read())
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}


def _run(script: str, argv: list[str]) -> int:
    """What ``python script *argv`` would exit with."""
    sys.argv = [script, *argv]
    sys.path.insert(0, str(ROOT / "launch"))
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
