"""One function per equation: stateless, minimised, a mean over voxels, a scalar."""
