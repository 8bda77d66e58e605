"""Registration networks by name: a method's registration is a setting (OS-MedSeg III-A)."""

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from soloatlas.errors import InputError
from soloatlas.networks.clmorph import CLMorph
from soloatlas.networks.group_unet import GroupRegistration
from soloatlas.networks.registration import SiameseRegistration, VoxelMorph
from soloatlas.networks.transmorph import TransMorph

REGISTRATION_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "siamese": SiameseRegistration,
    "voxelmorph": VoxelMorph,
    "voxelmorph-pooled": partial(VoxelMorph, pooled=True),
    "voxelmorph-short": partial(VoxelMorph, short=True),
    "transmorph": TransMorph,
    "clmorph": CLMorph,
    "clmorph-gaussian": partial(CLMorph, gaussian=True),
    "group": GroupRegistration,
}
"""Each takes (moving, fixed) and returns a `RegistrationOutput`; made from channels and half_resolution."""


def build(name: str, **settings: Any) -> nn.Module:
    """Make the registration network called ``name`` with its own ``settings``.

    Raises:
        InputError: no such network (the known ones are named).
    """
    if name not in REGISTRATION_NETWORKS:
        close = difflib.get_close_matches(name, REGISTRATION_NETWORKS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        known = ", ".join(REGISTRATION_NETWORKS)
        raise InputError(f"registration network '{name}' is not known; {hint}known: {known}")
    return REGISTRATION_NETWORKS[name](**settings)
