"""Resolves annotation paths to files on disk."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import defaultdict
from pathlib import Path

from ..file_names import path_from_text
from ..video.discovery import find_videos, video_suffixes

_MIN_SIMILARITY = 0.75  # less similar names are not suggested


class PathResolver:
    """Resolves paths below `root`. Folder listings are cached, which keeps long lists fast."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, frozenset[str]] = {}
        self._by_stem: dict[str, list[Path]] | None = None

    def find(self, written: str) -> tuple[Path, bool]:
        """Returns (path, exists), trying the path as written, then other spellings and suffixes."""
        spellings = [self.root / spelling for spelling in _spellings(written)]
        for path in spellings:
            if self.is_there(path):
                return path, True
        for path in spellings:
            if path.suffix.lower() in video_suffixes() or not path.suffix:
                for name in sorted(self._names_in(path.parent)):
                    candidate = Path(name)
                    is_video = candidate.suffix.lower() in video_suffixes()
                    if candidate.stem == path.stem and is_video:
                        return path.with_name(name), True
        return spellings[0], False

    def find_below(self, written: str) -> tuple[Path, bool]:
        """Like `find`, then searches by file name below the root, preferring the same folder."""
        path, file_exists = self.find(written)
        if file_exists:
            return path, True
        if self._by_stem is None:
            self._by_stem = defaultdict(list)
            for video in find_videos(self.root):
                self._by_stem[video.stem].append(video)
        candidates = self._by_stem.get(path.stem, [])
        parent = plain_name(path.parent.name)
        near = [found for found in candidates if plain_name(found.parent.name) == parent]
        return (near or candidates or [path])[0], bool(candidates)

    def guess(self, path: Path) -> Path | None:
        """Returns the existing path most similar to `path`, or None."""
        parts = Path(str(path).replace("\\", "/")).parts
        at = Path(parts[0]) if parts else Path()
        for part in parts[1:]:
            if not self.is_there(at / part):
                known = sorted(self._names_in(at))
                near = difflib.get_close_matches(part, known, n=1, cutoff=_MIN_SIMILARITY)
                if not near:
                    return None
                part = near[0]
            at = at / part
        return at if at != path else None

    def is_there(self, path: Path) -> bool:
        """Returns whether a path exists."""
        # exists() is for case-insensitive file systems.
        try:
            return path.name in self._names_in(path.parent) or path.exists()
        except OSError:  # a name too long for the file system
            return False

    def _names_in(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(entry.name for entry in folder.iterdir())
            except (OSError, ValueError):
                self._names[folder] = frozenset()
        return self._names[folder]


def _spellings(written: str) -> list[str]:
    """The path as written, and as it may be on this disk.

    Separators of Windows; other Unicode normal forms; undecodable bytes as `path_to_text` writes
    them, or in a list in Latin-1.
    """
    found = [written]
    if "\\" in written:
        found += [path_from_text(written), written.replace("\\", "/")]
    if not written.isascii():
        found += [unicodedata.normalize(form, written) for form in ("NFC", "NFD")]
        for encoding in ("cp1252", "latin-1"):
            try:
                found.append(os.fsdecode(written.encode(encoding)))
            except UnicodeEncodeError:
                continue
    return list(dict.fromkeys(found))


def plain_name(name: str) -> str:
    """Normalizes the case, spaces and quotes of a class name.

    >>> plain_name("Air_Drumming") == plain_name('"air drumming"')
    True
    """
    return " ".join(name.casefold().replace("_", " ").replace('"', "").replace("'", "").split())
