"""Views -> rows, with any runtime for vectors and with torch for maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from ..feature_info import checked_stages
from ..predictor import Predictor, require_finite_outputs
from ..preprocess import Views
from .options import FeatureOptions
from .table import Floats

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import VideoSwinTransformer
    from ..runtimes.torch_runtime import TorchRuntime


class FeatureNetwork:
    """The network of a predictor, up to a stage and pooled.

    Args:
        predictor: The model.
        options: Stage and pooling.

    Attributes:
        stage: The stage.

    Raises:
        ConfigError: The stage does not exist, or the runtime gives only vectors of the last stage.
    """

    def __init__(self, predictor: Predictor, options: FeatureOptions) -> None:
        num_stages = len(predictor.bundle.model.depths)
        wanted = num_stages - 1 if options.stage is None else options.stage
        (self.stage,) = checked_stages("stage", [wanted], num_stages)
        self.pooling = options.pooling
        self._predictor = predictor
        self._is_last = self.stage == num_stages - 1
        self._needs_maps = options.mode == "stream" or not (
            self._is_last and options.pooling in ("vector", "logits")
        )
        if options.pooling == "logits" and predictor.bundle.model.num_classes == 0:
            raise ConfigError(
                f"The model {predictor.name} has no classifier, so it gives no logits; load "
                "weights with a classifier."
            )
        if self._needs_maps:
            self.torch_runtime()  # fails early

    def run(self, views: Views) -> Floats:
        """Computes the rows of views.

        Args:
            views: (V, C, T, H, W) float32, normalized.

        Returns:
            (V, C), (V, classes), (V, D, C) or (V, C, D, h, w) float32.
        """
        if not self._needs_maps:
            outputs = self._predictor.runtime.run(views)
            rows = outputs.logits if self.pooling == "logits" else outputs.features
            require_finite_outputs(self._predictor, (rows,))
            return rows
        runtime, model = self.torch_runtime()

        def rows_of(x: Tensor) -> Floats:
            if self._is_last:
                maps = model.forward_features(x)
            else:
                maps = model.forward_intermediates(x, [self.stage])[self.stage]
            if self.pooling == "vector":
                maps = maps.mean(dim=(2, 3, 4))
            elif self.pooling == "tokens":
                maps = maps.mean(dim=(3, 4)).transpose(1, 2)  # (V, C, D) -> (V, D, C)
            return maps.float().cpu().numpy()

        return np.concatenate(runtime.map_batches(views, rows_of))

    @property
    def is_on_gpu(self) -> bool:
        """Whether the network runs on another device than the CPU."""
        # Only the torch runtimes have a choice.
        return str(getattr(self._predictor.runtime, "device", "cpu")) != "cpu"

    def torch_runtime(self) -> tuple[TorchRuntime, VideoSwinTransformer]:
        """Returns the runtime and its network.

        Raises:
            ConfigError: The model does not run in torch.
        """
        from ..model import VideoSwinTransformer
        from ..runtimes.torch_runtime import TorchRuntime

        runtime = self._predictor.runtime
        if isinstance(runtime, TorchRuntime) and isinstance(runtime.model, VideoSwinTransformer):
            return runtime, runtime.model
        raise ConfigError(
            "Streams, tokens, maps and stages need the weights in torch, but "
            f"{self._predictor.name} runs in {runtime.description}; load the weights with runtime "
            "'torch'."
        )
