"""Published weights and label lists, fetched into the cache when they are first wanted."""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import CheckpointError, DataError, VideoSwinError
from ..labels import find_label_set, read_labels
from ..registry import ModelCard, cards_for, is_there, labels_path, weights_path
from .http import DownloadRequest, Progress, download_file, require_digest
from .progress import terminal_progress

_MAX_LABEL_BYTES = 1 << 20
_LABEL_TIMEOUT_SECONDS = 10.0  # names are a comfort: nobody should wait long for them

_log = logging.getLogger(__name__)


def download_weights(
    card: ModelCard, force: bool = False, progress: Progress | None = None
) -> Path:
    """The file of a card's weights, as published; fetched unless it is in the cache.

    force: fetch it again. A file put into the cache by hand is used like a downloaded one.
    progress: None draws a bar on stderr if that is a terminal.
    Raises CheckpointError where there is none to download, it cannot be had, or it is damaged.
    """
    target = weights_path(card)
    if target is None or card.weights is None or card.weights.url is None:
        raise CheckpointError(_nothing_to_download(card))
    digest = card.weights.sha256_prefix
    if is_there(target) and not force:
        remedy = f"Get it again: videoswin download {card.name} --force."
        try:
            require_digest(target, digest, remedy)
        except OSError as error:
            raise CheckpointError(f"{target} cannot be read: {error.strerror}.") from error
        return target
    request = DownloadRequest(card.weights.url, target, digest)
    if progress is not None:
        return download_file(request, force, progress)
    with terminal_progress(card.name) as bar:
        return download_file(request, force, bar)


def _nothing_to_download(card: ModelCard) -> str:
    if card.weights is None:
        names = ", ".join(other.name for other in cards_for(card.architecture)) or "none"
        return (
            f"{card.name!r} is an architecture without weights of its own. Weights for it: {names}."
        )
    if card.weights.shipped_folder is not None:
        return f"The weights {card.name!r} ship with the package; there is nothing to download."
    return (
        f"The weights {card.name!r} were never released. The network can be built without them: "
        f"create_model({card.architecture!r})."
    )


def download_labels(label_set: str, force: bool = False) -> tuple[str, ...]:
    """The labels of a published set, fetched unless they are in the cache.

    Raises CheckpointError if they cannot be had, DataError if they are not what they should be.
    """
    labels = find_label_set(label_set)
    target = labels_path(labels.url)

    def check(path: Path) -> None:
        try:
            read_labels(path, labels.num_classes)
        except DataError as error:
            raise CheckpointError(
                f"{labels.url} is not the list of {labels.num_classes} labels that it should "
                f"be. {error}"
            ) from error

    request = DownloadRequest(
        labels.url,
        target,
        check=check,
        max_bytes=_MAX_LABEL_BYTES,
        timeout_seconds=_LABEL_TIMEOUT_SECONDS,
    )
    return read_labels(download_file(request, force), labels.num_classes)


def labels_of(card: ModelCard) -> tuple[str, ...]:
    """The labels of a card, fetched if need be; none, with a hint, where they cannot be had."""
    if card.bundle.labels or card.label_set is None:
        return card.bundle.labels
    try:
        return download_labels(card.label_set)
    except VideoSwinError as error:
        _log.warning("%s prints class numbers instead of names. %s", card.name, error)
        return ()
