"""Video decoding.

reader.py        VideoReader: reads frames at indices of a file, image folder or array
isolation.py     reads videos in a process with limits of time and memory
segment.py       VideoSegment: a part of a file between two times
container.py     opens containers safely and detects truncated files
integrity.py     finds damage that demuxers skip silently
sample_table.py  reads the sample table of mp4 files
bitstream.py     finds out what a packet contains, without decoding it
packet_table.py  maps packets to frames and plans which packets to decode
video_file.py    decodes packets to frames and converts them to RGB
images.py        reads image files and TIFF pages with OpenCV
sequences.py     chooses the frames among the images of a folder
metadata.py      metadata in the container header
discovery.py     finds videos in a folder
"""

from .images import FrameFolder
from .isolation import DecodeLimits, DecoderProcess, IsolatedVideo
from .reader import VideoReader
from .segment import VideoSegment

__all__ = [
    "DecodeLimits",
    "DecoderProcess",
    "FrameFolder",
    "IsolatedVideo",
    "VideoReader",
    "VideoSegment",
]
