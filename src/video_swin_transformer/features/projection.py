"""Projects features to fewer channels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from ..files import require_regular
from .table import Floats


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map of channels.

    Attributes:
        matrix: (C, K) float32.
        description: What tells it apart from others.
    """

    matrix: Floats
    description: str

    def apply(self, values: Floats, axis: int) -> Floats:
        """Projects one axis from C to K.

        Args:
            values: Features.
            axis: The axis of channels.

        Returns:
            float32, the same shape but for that axis.

        Raises:
            ConfigError: The matrix is for another number of channels.
        """
        channels = values.shape[axis]
        if channels != len(self.matrix):
            raise ConfigError(
                f"project is a matrix for {len(self.matrix)} channels, but the features have "
                f"{channels}."
            )
        projected = np.moveaxis(values, axis, -1) @ self.matrix
        return np.ascontiguousarray(np.moveaxis(projected, -1, axis), np.float32)


def random_projection(num_channels: int, num_projected: int, seed: int = 0) -> Projection:
    """Draws a Gaussian projection, which keeps distances on average (Johnson-Lindenstrauss).

    Args:
        num_channels: C.
        num_projected: K.
        seed: Seed; equal seeds give equal matrices on every machine.

    Returns:
        The projection.
    """
    noise = np.random.default_rng(seed).standard_normal((num_channels, num_projected))
    matrix = (noise / np.sqrt(num_projected)).astype(np.float32)
    return Projection(matrix, f"random {num_projected}, seed {seed}")


def load_projection(path: str | Path) -> Projection:
    """Reads a matrix (C, K) from a .npy file.

    Args:
        path: The file.

    Returns:
        The projection.

    Raises:
        DataError: The file is not a matrix of numbers.
    """
    try:
        require_regular(Path(path))
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"The projection {str(path)!r} cannot be read: {error}.") from error
    if (
        not isinstance(matrix, np.ndarray)
        or matrix.ndim != 2
        or matrix.dtype.kind not in "fiu"
        or not np.isfinite(matrix).all()
    ):
        raise DataError(
            f"The projection {str(path)!r} must be a .npy file with a finite matrix (channels, new "
            "channels)."
        )
    matrix = np.ascontiguousarray(matrix, np.float32)
    digest = hashlib.sha256(matrix.tobytes()).hexdigest()
    return Projection(matrix, f"matrix {matrix.shape[1]}, sha256 {digest[:16]}")
