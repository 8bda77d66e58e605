"""Metrics and their rules: of a case (`scores`), of files (`cohort`), of a study (`scoring`), in sum (`statistics`)."""

from soloatlas.evaluation.cohort import evaluate, kept_scores
from soloatlas.evaluation.scores import METRICS, evaluate_case
from soloatlas.evaluation.scoring import EVERY_LABEL, Scoring, score_study
from soloatlas.evaluation.statistics import bootstrap_interval, summarise

__all__ = [
    "EVERY_LABEL",
    "METRICS",
    "Scoring",
    "bootstrap_interval",
    "evaluate",
    "evaluate_case",
    "kept_scores",
    "score_study",
    "summarise",
]
