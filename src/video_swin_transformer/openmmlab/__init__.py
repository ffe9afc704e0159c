"""Config files of the official repository and of mmaction2, and "inference as official".

They are read as data (`syntax.py`), never executed; `recognizer.py` says what they mean.
"""

from .recognizer import (
    Recognizer,
    RecognizerConfig,
    bundle_for_testing,
    load_recognizer,
    understand,
)
from .syntax import read_config

__all__ = [
    "Recognizer",
    "RecognizerConfig",
    "bundle_for_testing",
    "load_recognizer",
    "read_config",
    "understand",
]
