"""Where the clips of an annotation lie on this disk."""

from __future__ import annotations

import difflib
from collections import defaultdict
from pathlib import Path

from ..video.discovery import VIDEO_SUFFIXES, videos_below

_MIN_SIMILARITY = 0.75  # similarity of names below which a guess would only confuse


class PathResolver:
    """Paths below `root`; each folder is listed once, so that long lists cost few calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, frozenset[str]] = {}
        self._by_stem: dict[str, list[Path]] | None = None

    def find(self, written: str) -> tuple[Path, bool]:
        """(the path, whether it leads to something): as written, or with another video suffix."""
        path = self.root / written
        if self._is_there(path):
            return path, True
        if path.suffix.lower() in VIDEO_SUFFIXES or not path.suffix:
            for name in sorted(self._names_in(path.parent)):
                there = Path(name)
                if there.stem == path.stem and there.suffix.lower() in VIDEO_SUFFIXES:
                    return path.with_name(name), True
        return path, False

    def find_below(self, written: str) -> tuple[Path, bool]:
        """As `find`, and then anywhere below the root: by name, first in a folder of that name."""
        path, is_there = self.find(written)
        if is_there:
            return path, True
        if self._by_stem is None:
            self._by_stem = defaultdict(list)
            for video in videos_below(self.root):
                self._by_stem[video.stem].append(video)
        candidates = self._by_stem.get(path.stem, [])
        wanted = plain_name(path.parent.name)
        near = [found for found in candidates if plain_name(found.parent.name) == wanted]
        return (near or candidates or [path])[0], bool(candidates)

    def guess(self, path: Path) -> Path | None:
        """The path most likely meant by one that leads nowhere, or None."""
        parts = Path(str(path).replace("\\", "/")).parts
        at = Path(parts[0]) if parts else Path()
        for part in parts[1:]:
            if not self._is_there(at / part):
                known = sorted(self._names_in(at))
                near = difflib.get_close_matches(part, known, n=1, cutoff=_MIN_SIMILARITY)
                if not near:
                    return None
                part = near[0]
            at = at / part
        return at if at != path else None

    def _is_there(self, path: Path) -> bool:
        # The second look is for file systems to which A and a are one name.
        return path.name in self._names_in(path.parent) or path.exists()

    def _names_in(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(entry.name for entry in folder.iterdir())
            except (OSError, ValueError):
                self._names[folder] = frozenset()
        return self._names[folder]


def plain_name(name: str) -> str:
    """A class name without what publishers write differently: case, blanks, quotes.

    >>> plain_name("Air_Drumming") == plain_name('"air drumming"')
    True
    """
    return " ".join(name.casefold().replace("_", " ").replace('"', "").replace("'", "").split())
