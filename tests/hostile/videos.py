"""Damaged videos and pictures of 18 formats, read as short and as long files."""

from __future__ import annotations

from pathlib import Path

from tests.test_video_fuzz import KINDS as CLIPS
from tests.test_video_fuzz import mutant, original, read_both_ways

KINDS = tuple(CLIPS)


def prepare(kind: str, folder: Path) -> bytes:
    return original(kind, folder)


def run(kind: str, seed: int, original: bytes, folder: Path) -> str:
    clip = CLIPS[kind]
    path = folder / f"mutant{clip.suffix if clip else f'.{kind}'}"
    path.write_bytes(mutant(original, seed))
    return read_both_ways(path)
