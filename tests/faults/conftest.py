"""Runs to hurt."""

import pytest

import runs


@pytest.fixture(scope="module")
def trained(launch, tmp_path_factory):
    """``trained(system)``: the workdir of an unbroken run, trained once."""
    made = {}

    def train(system):
        if system not in made:
            folder = tmp_path_factory.mktemp("runs") / system
            argv = runs.start(system, folder)
            done = launch("train.py", *argv, cwd=runs.SYSTEMS[system].cwd)
            assert done.code == 0, done.err
            made[system] = folder
        return made[system]

    return train
