"""Cohorts: those in the one layout of a shared folder, and the papers' public data sets as they are handed out."""

from soloatlas.data.cohorts.hippocampus import fetch_hippocampus as fetch_hippocampus
from soloatlas.data.cohorts.shared import data_root as data_root
from soloatlas.data.cohorts.shared import recorded_atlas as recorded_atlas
from soloatlas.data.cohorts.shared import shared_cohort as shared_cohort
