"""Where weights come from: a name, a saved folder, or anybody's file of Swin weights."""

from .checkpoint import load_checkpoint
from .coverage import CoverageReport
from .loading import create_model, embedded_folder, load_model

__all__ = ["CoverageReport", "create_model", "embedded_folder", "load_checkpoint", "load_model"]
