"""Blocks that forget what they computed, where memory is short.

T. Chen et al., "Training deep nets with sublinear memory cost", 2016.
"""

from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_activations(network: nn.Module) -> None:
    """Have every block of ``network`` keep its input alone and compute the rest again in the backward pass.

    Values and gradients stay the same, bit for bit where the device computes alike twice.
    """
    for block in blocks_of(network):
        if not isinstance(block.forward, partial):  # a network may be trained in two stages
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """The largest modules that hold no list of others: what lies between two levels of a network.

    Single layers are left out, since they keep little but their input, and so is what holds batch normalisation,
    whose running statistics would move twice.
    """
    for child in network.children():
        if any(isinstance(module, nn.ModuleList) for module in child.modules()):
            yield from blocks_of(child)
        elif any(child.children()) and not any(isinstance(m, nn.BatchNorm3d) for m in child.modules()):
            yield child
