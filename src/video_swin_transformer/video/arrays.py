"""The array types that the readers share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3) RGB, or (T, H, W, 3)
