"""Tracing of the model, writers for each export format, and the sidecar file."""
