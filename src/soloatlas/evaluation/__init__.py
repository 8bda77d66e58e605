"""Metrics and their rules: of a case (`scores`), of a cohort's files (`cohort`), in sum (`statistics`)."""

from soloatlas.evaluation.cohort import evaluate, kept_scores
from soloatlas.evaluation.scores import METRICS, evaluate_case
from soloatlas.evaluation.statistics import bootstrap_interval, summarise

__all__ = ["METRICS", "bootstrap_interval", "evaluate", "evaluate_case", "kept_scores", "summarise"]
