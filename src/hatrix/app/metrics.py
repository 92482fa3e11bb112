"""What the service counts, for Prometheus: requests, seconds, batches, and which model it serves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from hatrix.app.live import Live

__all__ = ["CONTENT_TYPE", "FOLDER", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that makes several processes count together, in files of the folder that it names."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
USERS = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counters of one application. Routes are named by their patterns, so that there are few."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.registry = CollectorRegistry()
        given: Any = {"registry": self.registry}
        self.requests = Counter(
            "hatrix_requests",
            "Requests by route and status of the reply",
            ["method", "route", "status"],
            **given,
        )
        self.seconds = Histogram(
            "hatrix_request_seconds", "Seconds until a reply was sent", ["route"], buckets=SECONDS, **given
        )
        self.running = Gauge(
            "hatrix_requests_in_flight", "Requests being worked on", multiprocess_mode="livesum", **given
        )
        self.batch = Histogram(
            "hatrix_batch_users", "Users whose lists were computed together", buckets=USERS, **given
        )
        self._requests: dict[tuple[str, str, int], Any] = {}
        self._seconds: dict[str, Any] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        key = method, route, status
        if (counter := self._requests.get(key)) is None:
            counter = self._requests[key] = self.requests.labels(method, route, str(status))
        if (histogram := self._seconds.get(route)) is None:
            histogram = self._seconds[route] = self.seconds.labels(route)
        counter.inc()
        histogram.observe(seconds)

    def text(self) -> bytes:
        """All of them in the exposition format; of all processes, where several serve."""
        if FOLDER in os.environ:
            _forget_ended(Path(os.environ[FOLDER]))
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        else:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
            registry.register(_Of(self.registry))
        registry.register(_OfModel(self.live))
        return generate_latest(registry)


def _forget_ended(folder: Path) -> None:
    """Leave out what processes that have ended were doing; what they have done goes on counting."""
    for file in folder.glob("gauge_live*.db"):
        process = int(file.stem.rpartition("_")[2])
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except OSError:
            pass


class _Of:
    """What another registry collects."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def collect(self) -> Iterator[Any]:
        yield from self.registry.collect()


class _OfModel:
    """What is served: of the process that answers, where several serve."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def collect(self) -> Iterator[Any]:
        served = self.live.current
        info = GaugeMetricFamily("hatrix_model_info", "The model served", labels=["version", "algorithm"])
        info.add_metric([served.version, served.model.recipe.name], 1)
        yield info
        loaded = GaugeMetricFamily(
            "hatrix_model_loaded_timestamp_seconds", "When the model served was loaded"
        )
        loaded.add_metric([], served.loaded.timestamp())
        yield loaded
        for name, what, number in (
            ("hatrix_model_reloads", "Models that took the place of another", self.live.reloads),
            ("hatrix_model_refusals", "Model files that were refused", self.live.refusals),
        ):
            counter = CounterMetricFamily(name, what)
            counter.add_metric([], number)
            yield counter
