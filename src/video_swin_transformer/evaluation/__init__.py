"""Accuracy by the multi-view protocol: a pass that can be interrupted, and figures made from it.

metrics.py    scores and labels -> figures, each with its definition
intervals.py  how far a figure may be off
scores.py     what the network said of every view, on disk; survives a kill
ranks.py      several processes at one evaluation
running.py    the pass (imported by those who run one: it opens the engines)
summary.py    stored scores -> every figure
charts.py     pictures
page.py       the report for people
outputs.py    the files
"""

from .metrics import MEAN_CLASS_RULES
from .outputs import write_results
from .page import TITLES, percent, protocol
from .ranks import Ranks, joined_ranks
from .scores import Plan, Scores, ScoreStore
from .summary import Evaluation, summarise

__all__ = [
    "MEAN_CLASS_RULES",
    "TITLES",
    "Evaluation",
    "Plan",
    "Ranks",
    "ScoreStore",
    "Scores",
    "joined_ranks",
    "percent",
    "protocol",
    "summarise",
    "write_results",
]
