"""The list of methods comes without torch, and other packages can add to it."""

import subprocess
import sys

from soloatlas.methods import available_methods


def test_listing_methods_and_help_import_no_torch():
    code = (
        "import sys; from soloatlas.methods import available_methods as a; a(); import soloatlas.cli;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_os_medseg_is_listed_with_its_family_and_paper():
    method = available_methods()["os-medseg"]
    assert method.family == "LRLS"
    assert "Zhou" in method.paper
