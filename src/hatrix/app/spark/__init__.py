"""Training and recommending on a Spark cluster: `fit`, `recommend_all`, `load` and `session`.

pyspark is imported in this package alone, and only when one of these names is asked for. See ``docs/spark.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatrix.app.spark.folder import load
    from hatrix.app.spark.lists import recommend_all
    from hatrix.app.spark.sessions import session
    from hatrix.app.spark.training import Fitted, fit

__all__ = ["Fitted", "fit", "load", "recommend_all", "session"]

_HOME = {
    "Fitted": "training",
    "fit": "training",
    "load": "folder",
    "recommend_all": "lists",
    "session": "sessions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hatrix.app.spark' has no attribute {name!r}")
    from hatrix.app.spark.java import need_the_extra

    need_the_extra()
    found = import_module(f"hatrix.app.spark.{_HOME[name]}")
    return getattr(found, name)


def __dir__() -> list[str]:
    return __all__
