"""Learning: a method describes what is learnt as a `Stage`, and `fit` does the rest."""

from soloatlas.training.checkpoints import checkpoint_weights as checkpoint_weights
from soloatlas.training.loop import fit as fit
from soloatlas.training.processes import Processes as Processes
from soloatlas.training.processes import joined_processes as joined_processes
from soloatlas.training.processes import started_processes as started_processes
from soloatlas.training.stage import Progress as Progress
from soloatlas.training.stage import Rival as Rival
from soloatlas.training.stage import Session as Session
from soloatlas.training.stage import Stage as Stage
from soloatlas.training.stage import Terms as Terms
from soloatlas.training.stage import Trial as Trial
from soloatlas.training.stage import steps_of as steps_of
