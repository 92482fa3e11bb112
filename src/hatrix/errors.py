"""The errors hatrix raises on purpose.

Each message says what is wrong, what was given, what is allowed and what to do. The command line prints the
message alone, with exit status 2; anything that is not a `HatrixError` is a bug of ours.
"""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec


class HatrixError(Exception):
    """Base of every error that hatrix raises on purpose."""


class DataError(HatrixError, ValueError):
    """The ratings, a file or a column are not usable as given."""


class ParameterError(HatrixError, ValueError):
    """A parameter is outside what is allowed."""


class DownloadError(HatrixError, OSError):
    """A named data set could not be had, or is not what it should be."""


class ModelFileError(HatrixError, ValueError):
    """A model file is damaged, foreign or of an unknown version."""


class StoreError(HatrixError, OSError):
    """The feedback store cannot be reached, read or written, or is not what it should be."""


class DivergenceError(HatrixError, ArithmeticError):
    """Training left the finite numbers."""


class MissingExtraError(HatrixError, ImportError):
    """A package of an optional extra is not installed."""

    @classmethod
    def of(cls, what: str, package: str, extra: str) -> MissingExtraError:
        """Build the error that names the missing package and the command that installs its extra.

        hatrix is on no package index, so the command installs from a clone, into the Python that runs this.

        Examples
        --------
        >>> print(MissingExtraError.of("hatrix serve", "uvicorn", "serve"))  # doctest: +ELLIPSIS
        hatrix serve needs the package uvicorn, which is not installed: run ... install '.[serve]' in a clone of hatrix
        """
        python = shlex.quote(sys.executable)
        install = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
        return cls(
            f"{what} needs the package {package}, which is not installed: "
            f"run {install} '.[{extra}]' in a clone of hatrix"
        )


class ClusterError(HatrixError, RuntimeError):
    """Spark did not start, or a job of it failed."""
