"""What all tests share: a cache of their own, so that nothing of this user is read or written."""

from __future__ import annotations

import os

import pytest


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
