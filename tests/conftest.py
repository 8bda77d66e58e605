"""What several tests share: a tiny material, a session, the real cohorts."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Processes of tests side by side share the cores; read when torch is imported, here and in the commands they start.
os.environ.setdefault(
    "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
)

import pytest
import torch

from soloatlas.data.cohorts import data_root
from soloatlas.material import Material
from soloatlas.settings import Loop
from soloatlas.training import Session


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def session(tmp_path):
    loop = Loop(precision="float32", log_steps=2)
    return Session(tmp_path, seed=0, device=torch.device("cpu"), loop=loop)


def blob(shape, centre, radius):
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape], indexing="ij")
    squared = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
    return torch.sigmoid(radius - squared.sqrt())


@pytest.fixture
def material():
    """A ball with a core as atlas, three shifted ones as pool; 32 voxels a side."""
    shape = (32, 32, 32)

    def scan(shift):
        centre = [16.0 + s for s in shift]
        return (0.2 + 0.4 * blob(shape, centre, 9) + 0.4 * blob(shape, centre, 4))[None, None]

    ball, core = blob(shape, (16,) * 3, 9) > 0.5, blob(shape, (16,) * 3, 4) > 0.5
    classes = (ball.short() + core.short())[None, None]
    pool = torch.cat([scan(s) for s in ((2, 0, 0), (0, -2, 1), (1, 1, -2))]).half()
    return Material(scan((0, 0, 0)), classes, pool, ("a", "b", "c"), 3, (1.0, 1.0, 1.0))


@pytest.fixture(scope="session")
def cohorts():
    root = data_root()
    if root is None:
        pytest.skip("real cohorts not found: set SOLOATLAS_DATA or place them in ../shared/data")
    return root
