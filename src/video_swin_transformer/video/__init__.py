"""Reading videos, in the order of the data:

reader.py        VideoReader: a file, a folder of images or an array -> frames at indices
container.py     what may be opened, safely, and whether it is complete
packet_index.py  which packet holds which frame, and what to decode for the wanted ones
video_file.py    packets -> numbered frames -> upright RGB
images.py        still images through OpenCV
metadata.py      what a container states about its video
discovery.py     the videos below a folder
"""

from .reader import VideoReader

__all__ = ["VideoReader"]
