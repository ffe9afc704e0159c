"""Downloads published weights and label lists into the cache on first use."""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import CheckpointError, DataError, VideoSwinError
from ..labels import find_label_set, read_labels
from ..registry import ModelCard, cards_for, file_exists, labels_path, weights_path
from .http import DownloadRequest, Progress, download_file, require_digest
from .progress import terminal_progress

_MAX_LABEL_BYTES = 1 << 20
_LABEL_TIMEOUT_SECONDS = 10.0  # short, since class names are optional

_log = logging.getLogger(__name__)


def download_weights(
    card: ModelCard, force: bool = False, progress: Progress | None = None
) -> Path:
    """Downloads the weights of a model card unless they are in the cache.

    A file copied into the cache manually is used like a downloaded one.

    Args:
        card: The model card.
        force: Download the file even if it is in the cache.
        progress: Called as progress(bytes received, total bytes or None). None draws a progress
            bar on stderr if it is a terminal.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: The weights are not downloadable, the download failed, or the file is
            damaged.
    """
    target = weights_path(card)
    if target is None or card.weights is None or card.weights.url is None:
        raise CheckpointError(_nothing_to_download(card))
    digest = card.weights.sha256_prefix
    if file_exists(target) and not force:
        remedy = f"Download it again: videoswin download {card.name} --force."
        try:
            require_digest(target, digest, remedy)
        except OSError as error:
            raise CheckpointError(f"{str(target)!r} cannot be read ({error.strerror}).") from error
        return target
    request = DownloadRequest(card.weights.url, target, digest)
    if progress is not None:
        return download_file(request, force, progress)
    with terminal_progress(card.name) as bar:
        return download_file(request, force, bar)


def _nothing_to_download(card: ModelCard) -> str:
    if card.weights is None:
        names = ", ".join(other.name for other in cards_for(card.architecture)) or "none"
        return f"{card.name!r} is an architecture without weights. Weights for it: {names}."
    if card.weights.shipped_folder is not None:
        return f"The weights {card.name!r} are bundled with the package; no download is needed."
    return (
        f"The weights {card.name!r} were never released. To create the model without weights: "
        f"create_model({card.architecture!r})."
    )


def download_labels(label_set: str, force: bool = False) -> tuple[str, ...]:
    """Downloads a label list unless it is in the cache.

    Args:
        label_set: A key of `labels.LABEL_SETS`.
        force: Download the list even if it is in the cache.

    Returns:
        The labels in class order.

    Raises:
        CheckpointError: The download failed, or the file is not a list of the expected length.
        DataError: The cached file is damaged.
    """
    labels = find_label_set(label_set)
    target = labels_path(labels.url)

    def check(path: Path) -> None:
        try:
            read_labels(path, labels.num_classes)
        except DataError as error:
            raise CheckpointError(
                f"{labels.url} is not a list of {labels.num_classes} labels as expected. {error}"
            ) from error

    request = DownloadRequest(
        labels.url,
        target,
        check=check,
        max_bytes=_MAX_LABEL_BYTES,
        timeout_seconds=_LABEL_TIMEOUT_SECONDS,
    )
    return read_labels(download_file(request, force), labels.num_classes)


def load_card_labels(card: ModelCard) -> tuple[str, ...]:
    """Returns the labels of a card, downloading them if necessary; () if that fails (logged)."""
    if card.bundle.labels or card.label_set is None:
        return card.bundle.labels
    try:
        return download_labels(card.label_set)
    except VideoSwinError as error:
        _log.warning(
            "Class names of %s are not available, so numbers are shown. %s", card.name, error
        )
        return ()
