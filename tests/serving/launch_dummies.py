"""Runs ``launch/serve_expert.py`` with dummy experts in the place of shipped ones.

python launch_dummies.py --expert=sign ...
python launch_dummies.py        answers requests, as tests/launch/forkserver.py does
"""

import importlib.util
import pathlib
import sys
import types

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]


def load_file(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(argv):
    sys.path[0] = str(ROOT)
    dummies = load_file(HERE / "dummies.py")
    known = {name: dummies.Dummy(name) for name in ("sign", "chart")}

    def load(name):
        if name not in known:
            raise FileNotFoundError(f"no specialist {name!r}; there are sign, chart")
        print("loading")  # must not spoil what is said over stdio
        return known[name]

    specialists = types.ModuleType("m3jax.systems.m3llm.experts")
    specialists.load = load
    sys.modules[specialists.__name__] = specialists
    server = load_file(ROOT / "tests" / "forkserver.py")
    if argv:
        sys.exit(server._run("launch/serve_expert.py", argv))
    server._import_everything = import_what_it_needs
    server.main()


def import_what_it_needs():
    from m3jax.systems import m3llm  # noqa: F401
    from m3jax.train import cache, interrupts, memory  # noqa: F401


if __name__ == "__main__":
    main(sys.argv[1:])
