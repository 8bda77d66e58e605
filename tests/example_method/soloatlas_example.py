"""VoxelMorph that compares images by mutual information: a method in a package of its own."""

from dataclasses import replace

from soloatlas import presets
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Registering as Settings

METHOD = Method(
    name="voxelmorph-mi",
    family="ABS",
    paper="none: an example",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="1-10 min, 1-3 GB",
    stages=("register",),
)


def preset(name):
    """The settings of a preset: quick, standard, paper or paper-ct."""
    shared = presets.registration(name)
    registration = replace(shared, network="voxelmorph", channels=(16, 32, 32, 32), beta=0.0, similarity="mi")
    return Settings(presets.prepare(name), registration)


validate = check_settings


def train(material, settings, session):
    """Learn to register the atlas to the pool."""
    from soloatlas.registration import learn_registration

    return {"registration": learn_registration(material, settings.registration, session)}
