"""Features of clips and streams."""

from .streaming import StreamingFeatures, StreamingLag, streaming_lag

__all__ = ["StreamingFeatures", "StreamingLag", "streaming_lag"]
