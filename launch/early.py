"""Takes the signals over; imported by ``cli`` before anything that takes time."""

import sys

from m3jax.train import interrupts


def is_main_process() -> bool:
    """False in a process that a launcher starts, which imports the launcher again."""
    started_by = sys.modules.get("multiprocessing.process")
    return started_by is None or started_by.current_process().name == "MainProcess"


if is_main_process():
    interrupts.take_over()
