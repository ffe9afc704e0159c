"""What a model sees: heat maps over the frames of a video, and what each view was shown.

explain     explain: the steps below for all views of a video
views       sampled_views: frames, times and crops of each view
clip        a video -> frames and views, and maps of views -> maps over frames
layers      which block, and hooks that read what flows through it
cam         Grad-CAM and Eigen-CAM
attention   attention of shifted windows on the token grid, and rollout
occlusion   what the logit loses when a part is hidden
pixels      token grid -> pixels of a view
result      Explanation: the maps, and files that show them
"""

from ..sampled_view import SampledView
from .explain import METHODS, explain
from .layers import LAYERS
from .occlusion import FILLS
from .result import Explanation
from .views import SampledViews, sampled_views

__all__ = [
    "FILLS",
    "LAYERS",
    "METHODS",
    "Explanation",
    "SampledView",
    "SampledViews",
    "explain",
    "sampled_views",
]
