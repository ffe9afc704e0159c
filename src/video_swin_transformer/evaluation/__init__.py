"""Accuracy by the multi-view protocol: stored logits, metrics with intervals, and a report.

evaluate.py      evaluate(), evaluate_scores(): the two entry points
runner.py        every clip through the network
distributed.py   several processes share an evaluation
scores.py        the logits of every view on disk; survives a kill
summary.py       stored scores -> all results
metrics.py       scores and labels -> metrics, each with its definition
intervals.py     95 % intervals
charts.py        pictures
html_report.py   the report
outputs.py       the files
"""

from .distributed import ProcessGroup, default_device, process_group
from .evaluate import SCORES_FOLDER, evaluate, evaluate_scores
from .html_report import TITLES, percent, protocol
from .metrics import MEAN_CLASS_RULES
from .outputs import write_results
from .scores import Plan, Scores, ScoreStore
from .summary import ClipFailure, EvaluationResult, summarize

__all__ = [
    "MEAN_CLASS_RULES",
    "SCORES_FOLDER",
    "TITLES",
    "ClipFailure",
    "EvaluationResult",
    "Plan",
    "ProcessGroup",
    "ScoreStore",
    "Scores",
    "default_device",
    "evaluate",
    "evaluate_scores",
    "percent",
    "process_group",
    "protocol",
    "summarize",
    "write_results",
]
