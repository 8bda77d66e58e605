"""One process of a point of `scaling`: ``python benchmarks/scaling_point.py POINT FOLDER``, also by torchrun."""

import json
import sys
from pathlib import Path

from scaling import Point, train

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    train(Point(**{**given, "shape": tuple(given["shape"])}), Path(sys.argv[2]))
