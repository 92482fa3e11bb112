"""What spark-submit runs: ``spark-submit … submit.py fit …`` is ``hatrix spark fit …`` on the cluster that it names."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
        del sys.path[0]  # the folder of a script comes first, and this one has names of its own in it
    from hatrix.app.cli import main

    main(["spark", *sys.argv[1:]])
