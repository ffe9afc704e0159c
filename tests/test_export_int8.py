"""int8: layers whose error is too large go back to float, and only as many as it takes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.samples import CLIP, small_bundle, views_of
from video_swin_transformer import VideoSwinTransformer
from video_swin_transformer.exporters.openvino_model import import_openvino, openvino_graph
from video_swin_transformer.exporters.quantization import quantize
from video_swin_transformer.exporters.tracing import LogitsAndFeatures, trace
from video_swin_transformer.postprocess import ViewOutputs
from video_swin_transformer.verification import relative_error


@pytest.mark.timeout(900)  # NNCF on a busy machine
def test_layers_go_back_to_float_where_the_bound_is_missed():
    torch.manual_seed(0)
    bundle = small_bundle()
    # One block, since every quantizer is tried; its boxes are of a size that OpenVINO gets right.
    one_block = dataclasses.replace(
        bundle.model, depths=(1,), num_heads=(2,), window_size=(2, 4, 4)
    )
    model = VideoSwinTransformer(dataclasses.replace(bundle, model=one_block)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    views = views_of(CLIP, 4)
    with torch.inference_mode():
        expected = ViewOutputs(
            *(out.numpy() for out in LogitsAndFeatures(model)(torch.tensor(views)))
        )
    program = trace(model, CLIP, dynamic_batch=False)

    def in_int8(max_error: float) -> tuple[int, float]:
        """Quantizers in the graph, and the error of what it computes."""
        graph = quantize(openvino_graph(program), views, expected, max_error)
        compiled = import_openvino().Core().compile_model(graph, "CPU")
        results = [compiled(view[np.newaxis]) for view in views]
        got = [np.concatenate([result[i] for result in results]) for i in (0, 1)]
        kinds = [node.get_type_name() for node in graph.get_ops()]
        return kinds.count("FakeQuantize"), relative_error(expected, got)

    num_all, error = in_int8(1.0)
    num_left, error_left = in_int8(0.95 * error)
    assert 0 < num_left < num_all
    assert error_left <= 0.95 * error
