"""Multi-view evaluation: stored logits, metrics with confidence intervals, and a report.

evaluate.py      evaluate(), evaluate_scores(): the two entry points
runner.py        runs the model on all clips
distributed.py   distributes the clips over processes
scores.py        stores the logits of every view; supports resuming
summary.py       computes all results from stored logits
metrics.py       metrics and their definitions
intervals.py     95% confidence intervals
charts.py        charts as SVG
html_report.py   the HTML report
outputs.py       writes the output files
regression.py    models that predict numbers
segments.py      mean average precision of segments
"""

from .distributed import ProcessGroup, default_device, process_group
from .evaluate import SCORES_FOLDER, evaluate, evaluate_scores
from .html_report import TITLES, percent, protocol
from .metrics import MEAN_CLASS_RULES
from .outputs import write_results
from .regression import RegressionResult, TargetResult, evaluate_regression
from .scores import Plan, Scores, ScoreStore
from .segments import TIOUS, SegmentMap, evaluate_segments, segment_map
from .summary import ClipFailure, EvaluationResult, summarize

__all__ = [
    "MEAN_CLASS_RULES",
    "SCORES_FOLDER",
    "TIOUS",
    "TITLES",
    "ClipFailure",
    "EvaluationResult",
    "Plan",
    "ProcessGroup",
    "RegressionResult",
    "ScoreStore",
    "Scores",
    "SegmentMap",
    "TargetResult",
    "default_device",
    "evaluate",
    "evaluate_regression",
    "evaluate_scores",
    "evaluate_segments",
    "percent",
    "process_group",
    "protocol",
    "segment_map",
    "summarize",
    "write_results",
]
