"""The network an engine is to run: known by settings and digest, built only where it must be.

An engine that finds its compiled model on disk needs neither the network nor torch. So what is
asked first, `digest` and `bundle`, comes from the bytes of the weights file and from what was kept
the last time the same bytes were opened.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import CONFIG_FILE, WEIGHTS_FILE, BundleConfig
from ..errors import CheckpointError, ConfigError
from ..weights.download import labels_of
from ..weights.sources import find_weights
from .kept import keep_text, kept_text

if TYPE_CHECKING:
    from ..model import VideoSwinTransformer

_BUNDLE_NAME = "bundle.json"


class Network:
    """Weights by name, folder or file, with the bundle that goes with them or another one.

    digest: of everything that decides the answers. bundle: with the labels, fetched if need be.
    Raises CheckpointError or UnknownNameError where there are no such weights.
    """

    def __init__(self, source: str | Path, bundle: BundleConfig | None = None) -> None:
        self._source, self._own_bundle = source, bundle
        self._built: VideoSwinTransformer | None = None
        path, card = find_weights(source)
        self.digest = _digest(path, bundle)
        self.bundle = bundle or self._kept_bundle() or self._read_bundle()
        if card is not None and not self.bundle.labels:
            self.bundle = dataclasses.replace(self.bundle, labels=labels_of(card))

    def build(self) -> VideoSwinTransformer:
        """The network itself: float32, in eval mode, on the CPU. Imports torch."""
        if self._built is None:
            require_torch(self._source)
            from ..weights.loading import load_model

            self._built = load_model(self._source, self._own_bundle)
        return self._built

    def release(self) -> None:
        """Gives back the memory of what was built; `build` would build it again."""
        self._built = None

    def _kept_bundle(self) -> BundleConfig | None:
        text = kept_text(self.digest, _BUNDLE_NAME)
        try:
            return None if text is None else BundleConfig.from_json(text)
        except ConfigError:  # of another version
            return None

    def _read_bundle(self) -> BundleConfig:
        bundle = self.build().bundle
        keep_text(self.digest, _BUNDLE_NAME, bundle.to_json())
        return bundle


def require_torch(source: str | Path) -> None:
    """Raises CheckpointError where torch, and so any file of weights, cannot be used."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise CheckpointError(
            f"The weights {str(source)!r} cannot be opened: torch cannot be imported here "
            f"({error}). Install it with: pip install torch; or use an exported model, made on "
            "another machine with: videoswin export."
        ) from error


def _digest(path: Path, bundle: BundleConfig | None) -> str:
    """SHA-256 of the weights, of the config beside them and of the bundle given instead."""
    names = (WEIGHTS_FILE, "pytorch_model.bin", CONFIG_FILE)
    files = [path / name for name in names] if path.is_dir() else [path, path.parent / CONFIG_FILE]
    digest = hashlib.sha256()
    try:
        for part in files:
            if part.is_file():
                with part.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise CheckpointError(
            f"{str(error.filename)!r} cannot be read: {error.strerror}."
        ) from error
    digest.update((bundle.to_json() if bundle is not None else "").encode())
    return digest.hexdigest()
