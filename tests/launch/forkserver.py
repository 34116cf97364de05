"""Runs launchers, each in a fresh fork of one process that has imported everything.

A launcher parses its flags once per process, and importing JAX takes seconds; so this
program imports first and forks for each request. Reads a JSON line
``{"script", "argv", "environ", "cwd"}`` from standard input, answers with
``{"code", "out", "err"}``.
"""

import json
import os
import pathlib
import runpy
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parents[2]


def main() -> None:
    """Serves until standard input ends."""
    _import_everything()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_serve(**json.loads(line))), flush=True)


def _import_everything() -> None:
    from ml_collections import config_flags  # noqa: F401

    from m3jax import studies  # noqa: F401
    from m3jax.experiments import sweeping  # noqa: F401
    from m3jax.foundation import audit  # noqa: F401
    from m3jax.systems.m3llm.study import whole  # noqa: F401
    from m3jax.systems.tokcom.study import whole as tokcom  # noqa: F401


def _serve(
    script: str, argv: list[str], environ: dict[str, str], cwd: str = str(ROOT)
) -> dict:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.environ |= environ
            os.chdir(cwd)
            os._exit(_run(script, argv))
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
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
