"""A model that is built only if no compiled version of it is cached.

If the compiled model is cached, a runtime needs neither the eager model nor torch. The `digest` is
computed from the weights file, and the `bundle` is cached when the weights are first loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import CONFIG_FILE, WEIGHTS_FILE, BundleConfig
from ..errors import CheckpointError, ConfigError
from ..files import sha256_files
from ..weights.download import load_card_labels
from ..weights.resolve import ResolvedModel
from .compile_cache import read_cached_text, write_cached_text

if TYPE_CHECKING:
    from ..model import VideoSwinTransformer

_BUNDLE_NAME = "bundle.json"


class LazyModel:
    """Weights and their configuration.

    Args:
        resolved: The model.
        bundle: Configuration to use instead of the model's own.

    Attributes:
        digest: SHA-256 of everything that determines the outputs.
        bundle: The configuration, with labels (downloaded if necessary).

    Raises:
        CheckpointError: The weights cannot be read.
    """

    def __init__(self, resolved: ResolvedModel, bundle: BundleConfig | None = None) -> None:
        self._resolved, self._bundle_override = resolved, bundle
        self._built: VideoSwinTransformer | None = None
        self.digest = weights_digest(resolved.path, bundle)
        self.bundle = bundle or self._cached_bundle() or self._read_bundle()
        if resolved.card is not None and not self.bundle.labels:
            self.bundle = dataclasses.replace(self.bundle, labels=load_card_labels(resolved.card))

    def build(self) -> VideoSwinTransformer:
        """Builds the model on first use: float32, in eval mode, on the CPU. Imports torch."""
        if self._built is None:
            try:
                from ..weights.factory import load_model
            except ImportError as error:
                raise self._resolved.torch_missing(error) from error
            self._built = load_model(self._resolved, self._bundle_override)
        return self._built

    def release(self) -> None:
        """Frees the model. A later `build` loads it again."""
        self._built = None

    def _cached_bundle(self) -> BundleConfig | None:
        text = read_cached_text(self.digest, _BUNDLE_NAME)
        try:
            return None if text is None else BundleConfig.from_json(text)
        except ConfigError:  # written by another version
            return None

    def _read_bundle(self) -> BundleConfig:
        bundle = self.build().bundle
        write_cached_text(self.digest, _BUNDLE_NAME, bundle.to_json())
        return bundle


def weights_digest(path: Path, bundle: BundleConfig | None = None) -> str:
    """Returns the SHA-256 of the weights, their config file and the given bundle.

    Args:
        path: Weights file, model folder or exported model.
        bundle: Configuration to use instead of the model's own.

    Raises:
        CheckpointError: A file cannot be read.
    """
    names = (WEIGHTS_FILE, "pytorch_model.bin", CONFIG_FILE)
    files = [path / name for name in names] if path.is_dir() else [path, path.parent / CONFIG_FILE]
    if path.suffix.lower() == ".xml":  # OpenVINO keeps the weights beside the graph
        files.append(path.with_suffix(".bin"))
    try:
        digest = sha256_files(part for part in files if part.is_file())
    except OSError as error:
        raise CheckpointError(
            f"{str(error.filename)!r} cannot be read: {error.strerror}."
        ) from error
    text = bundle.to_json() if bundle is not None else ""
    return hashlib.sha256((digest + text).encode()).hexdigest()
