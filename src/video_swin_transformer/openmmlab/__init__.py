"""Support for config files of the official repository and mmaction2.

Config files are parsed, never executed (`config_parser.py`); `recognizer.py` interprets them.
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
