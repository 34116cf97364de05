"""The command that writes a data set, for each of the sets."""

import pytest


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "edge_scenes/smoke/1.0.0: 896 examples"),
        (["--dataset=edge_scenes"], "edge_scenes/smoke/1.0.0: 896 examples"),
        (["--dataset=edge_text"], "edge_text/smoke/1.0.0: 1920 examples"),
    ],
)
def test_a_set_is_written_and_then_found(launch, argv, told):
    argv = ["--config=smoke", *argv]
    done = launch("prepare_data.py", *argv)
    assert done.code == 0 and told in done.out, done
    assert "already there" in launch("prepare_data.py", *argv).out


def test_what_there_is_not_is_refused_in_one_line(launch):
    done = launch("prepare_data.py", "--dataset=edge_text", "--config=video")
    assert done.code == 1
    assert "EdgeText has no config 'video'; choose one of" in done.err
    done = launch("prepare_data.py", "--dataset=edge_songs")
    assert done.code == 1
    assert "edge_scenes|edge_text" in done.err
