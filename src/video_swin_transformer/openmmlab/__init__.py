"""Config files of the official repository and of mmaction2, and "inference as official".

They are read as data (`syntax.py`), never executed; `recognizer.py` says what they mean.
"""

from .config_parser import read_config
from .recognizer import (
    Recognizer,
    RecognizerConfig,
    bundle_for_testing,
    load_recognizer,
    parse_config,
)

__all__ = [
    "Recognizer",
    "RecognizerConfig",
    "bundle_for_testing",
    "load_recognizer",
    "parse_config",
    "read_config",
]
