"""What is measured: one item a file, in the order in which ``make bench`` takes them."""

NAMES = (
    "lncc",
    "mutual-information",
    "smoothness",
    "warp",
    "voxelmorph-step",
    "distillation-step",
    "lt-net-step",
    "segment",
    "segment-ct",
    "evaluate",
    "prepare",
    "cpu-settings",
    "plan",
)
