"""Sets of class names."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError


def read_labels(path: str | Path, num_classes: int) -> tuple[str, ...]:
    """One label a line (UTF-8), in the order of the classes; blank lines at the end are ignored.

    Raises DataError if the file cannot be read or does not have `num_classes` lines.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The label file {str(path)!r} cannot be read: {error}.") from error
    labels = tuple(line.strip() for line in text.rstrip().splitlines())
    if len(labels) != num_classes:
        raise DataError(
            f"The label file {str(path)!r} has {len(labels)} lines, but the model has "
            f"{num_classes} classes; give one label a line, in the order of the classes."
        )
    return labels
