"""The errors hatrix raises on purpose.

Each message says what is wrong, what was given, what is allowed and what to do. The command line prints the
message alone, with exit status 2; anything that is not a `HatrixError` is a bug of ours.
"""


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


class ClusterError(HatrixError, RuntimeError):
    """Spark did not start, or a job of it failed."""
