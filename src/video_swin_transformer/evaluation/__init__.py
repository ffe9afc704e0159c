"""Accuracy by the multi-view protocol: a pass that can be interrupted, and figures made from it.

metrics.py    scores and labels -> figures, each with its definition
intervals.py  how far a figure may be off
scores.py     what the network said of every view, on disk; survives a kill
distributed.py      several processes at one evaluation
runner.py    the pass (imported by those who run one: it opens the engines)
summary.py    stored scores -> every figure
charts.py     pictures
html_report.py       the report for people
outputs.py    the files
"""

from .distributed import ProcessGroup, process_group
from .html_report import TITLES, percent, protocol
from .metrics import MEAN_CLASS_RULES
from .outputs import write_results
from .scores import Plan, Scores, ScoreStore
from .summary import Evaluation, summarize

__all__ = [
    "MEAN_CLASS_RULES",
    "TITLES",
    "Evaluation",
    "Plan",
    "ProcessGroup",
    "ScoreStore",
    "Scores",
    "percent",
    "process_group",
    "protocol",
    "summarize",
    "write_results",
]
