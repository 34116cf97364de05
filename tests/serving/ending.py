"""A server with one slow expert, for tests of its end.

python ending.py SECONDS_OF_A_CALL GRACE_S

Prints its URL, a line as soon as a call is worked on, and at the end what came of it.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import dummies

from m3jax.serving import over_http, server, wire


def main(seconds, grace_s):
    def work(_):
        print("working", flush=True)
        time.sleep(float(seconds))

    served = server.make_server([dummies.Dummy("slow", before=work)])
    ended = over_http.serve(
        served,
        port=0,
        started=lambda url: print(url, flush=True),
        limits=wire.Wire(grace_s=float(grace_s)),
    )
    print(ended.received.name, ended.cut_off, ended.abandoned, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
