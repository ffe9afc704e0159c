"""Where weights come from: a name, a saved folder, or a `.safetensors` file."""

from .loading import create_model, embedded_folder, load_model

__all__ = ["create_model", "embedded_folder", "load_model"]
