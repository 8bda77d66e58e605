"""Bringing scans onto one working grid, and the exact way back."""

from soloatlas.prepare.ahead import prepare_ahead as prepare_ahead
from soloatlas.prepare.alignment import align as align
from soloatlas.prepare.average import closest_to_average as closest_to_average
from soloatlas.prepare.choice import choose_atlas as choose_atlas
from soloatlas.prepare.cohort import PREPARE_VERSION as PREPARE_VERSION
from soloatlas.prepare.cohort import Prepared as Prepared
from soloatlas.prepare.cohort import PreparedStudy as PreparedStudy
from soloatlas.prepare.cohort import finite as finite
from soloatlas.prepare.cohort import load_prepared as load_prepared
from soloatlas.prepare.cohort import prepare_pool_labels as prepare_pool_labels
from soloatlas.prepare.cohort import prepare_scan as prepare_scan
from soloatlas.prepare.cohort import prepare_study as prepare_study
from soloatlas.prepare.cohort import save_prepared as save_prepared
from soloatlas.prepare.cohort import unprepared as unprepared
from soloatlas.prepare.grids import Placement as Placement
from soloatlas.prepare.grids import canonical as canonical
from soloatlas.prepare.grids import field_of_view as field_of_view
from soloatlas.prepare.grids import labels_to_native as labels_to_native
from soloatlas.prepare.grids import place as place
from soloatlas.prepare.grids import prepare_labels as prepare_labels
from soloatlas.prepare.grids import resample as resample
from soloatlas.prepare.grids import resample_classes as resample_classes
from soloatlas.prepare.grids import to_native as to_native
from soloatlas.prepare.grids import working_grid as working_grid
from soloatlas.prepare.intensity import body as body
from soloatlas.prepare.intensity import normalise as normalise
