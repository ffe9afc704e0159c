"""A short version of the campaign of `python -m tests.hostile`; see docs/reliability.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.hostile.batches import MIXED, count_outcomes, load_family, run_cases

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="measures memory the POSIX way")


@pytest.mark.parametrize(
    ("family", "seeds_per_kind"),
    [
        ("texts", 7),
        ("weights", 4),
        ("bits", 3),
        pytest.param("giants", 1, marks=pytest.mark.slow),
    ],
)
def test_hostile_inputs_are_read_or_refused_within_limits(
    family: str, seeds_per_kind: int, tmp_path: Path
) -> None:
    count = seeds_per_kind * len(load_family(family).KINDS)
    cases = run_cases(family, MIXED, range(count), tmp_path)
    assert [case for case in cases if not case.is_good] == []
    assert sum(count_outcomes(cases).values()) == count
    assert len(count_outcomes(cases)) > 1  # not everything is refused, or read
