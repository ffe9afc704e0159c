"""Segments and shots of stitched videos with known borders.

python -m benchmarks.segments --clips 48 --pictures docs/images
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.stitched import border_errors, stitch
from video_swin_transformer import Predictor, SegmentRules, detect_segments, label_shots
from video_swin_transformer.evaluation import segment_map


def main() -> None:
    """Prints one row per video."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=Path, help="folder for a timeline of the first video")
    arguments = parser.parse_args()
    predictor = Predictor.load("camera-motion")
    print(
        "| rate | seconds | borders: mean, worst | labels | mAP | shots | labels of shots | time |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for variable_rate in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            video = stitch(
                Path(folder), arguments.clips, variable_rate=variable_rate, seed=arguments.seed
            )
            start = time.perf_counter()
            found = detect_segments(predictor, video.path)
            took = time.perf_counter() - start
            if arguments.pictures is not None and not variable_rate:
                found.save_picture(arguments.pictures / "segments.png")
            ranked = detect_segments(
                predictor, video.path, rules=SegmentRules(soft_nms_sigma=0.5, min_seconds=0.2)
            )
            shots = label_shots(predictor, video.path)
        errors = border_errors(video.borders, found.segments)
        truth = video.truth.segments
        right = sum(
            max(found.segments, key=lambda s: min(s.end, one.end) - max(s.start, one.start)).label
            == one.label
            for one in truth
        )
        starts = [shot.start_frame for shot in shots.shots]
        of_shots = sum(
            shots.top(starts.index(first))[0] == one.label
            for first, one in zip(video.first_frames, truth, strict=True)
            if first in starts
        )
        measured = segment_map([video.truth], [ranked.as_annotation()])
        print(
            f"| {'variable' if variable_rate else 'constant'} "
            f"| {np.mean(errors):.2f}, {np.max(errors):.2f} s | {right} of {len(truth)} "
            f"| {measured.average:.3f} | {len(set(starts) & set(video.first_frames))} of "
            f"{len(truth)}, {len(set(starts) - set(video.first_frames))} others "
            f"| {of_shots} of {len(truth)} | {took:.1f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
