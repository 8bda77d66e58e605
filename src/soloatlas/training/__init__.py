"""Learning: a method describes what is learnt as a `Stage`, and `fit` does the rest."""

from soloatlas.training.checkpoints import checkpoint_weights as checkpoint_weights
from soloatlas.training.checkpoints import seconds_trained as seconds_trained
from soloatlas.training.loop import fit as fit
from soloatlas.training.stage import Progress as Progress
from soloatlas.training.stage import Rival as Rival
from soloatlas.training.stage import Session as Session
from soloatlas.training.stage import Stage as Stage
from soloatlas.training.stage import Terms as Terms
from soloatlas.training.stage import Trial as Trial
from soloatlas.training.stage import steps_of as steps_of
