"""What all tests share: a cache of their own, so that nothing of this user is read or written."""

from __future__ import annotations

import os

import pytest

from video_swin_transformer import cli


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Downloads and compiled models of the tests; one for the session, so each compiles once."""
    before = os.environ.get("VIDEOSWIN_HOME")
    os.environ["VIDEOSWIN_HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    if before is None:
        del os.environ["VIDEOSWIN_HOME"]
    else:
        os.environ["VIDEOSWIN_HOME"] = before


@pytest.fixture
def run(capsys):
    """The command in this process (torch is loaded once): (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = cli.run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        # Whether this call is the first to compile a model depends on the tests before it.
        lines = [
            line for line in err.splitlines(keepends=True) if "once per clip shape" not in line
        ]
        return code, out, "".join(lines)

    return call
