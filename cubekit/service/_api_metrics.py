"""What the service tells Prometheus: of its requests, and of the state of its study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from cubekit.service._api_live import Live
from cubekit.service.context import present
from cubekit.service.state import Alert, DeadLetter, Delivery, Job, Look, PassTimes, last_good_look

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Bounds of the latencies that are told apart."""

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text."""


class Meters:
    """Counters of one app.

    Parameters
    ----------
    live
        Its state.
    """

    def __init__(self, live: Live) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_StateOf(live))
        self._requests = Counter(
            "cubekit_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "cubekit_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=self._registry
        )
        # Few routes, methods and statuses there are: looking a meter up costs more than counting.
        self._counter = lru_cache(1024)(self._requests.labels)
        self._timer = lru_cache(256)(self._seconds.labels)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._counter(method, route, status).inc()
        self._timer(route).observe(seconds)

    def text(self) -> bytes:
        """All, as Prometheus reads it."""
        return generate_latest(self._registry)


class _StateOf(Collector):
    """Reads the state whenever it is asked."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def describe(self) -> list[Metric]:
        """Nothing is read at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One moment of the state."""
        live, now = self._live, present()

        def gauge(name: str, text: str, label: str = "lake") -> GaugeMetricFamily:
            return GaugeMetricFamily(f"cubekit_{name}", text, labels=[label])

        look = gauge("last_look_age_seconds", "Since the last look that ended well was begun.")
        failed = gauge("failed_looks", "Looks that failed.")
        release = gauge("release_age_seconds", "Since the newest release was made.")
        served = gauge("passes_served", "Passes that have come to be served.")
        latency = gauge("served_after_seconds", "From the product's making to its being served, of the newest pass.")
        alerts = gauge("open_alerts", "Alerts that are not closed.")
        letters = gauge("dead_letters", "Granules that could not be used.")
        jobs = gauge("jobs", "Jobs by their state.", "state")
        outbox = gauge("deliveries", "Messages to webhooks by their state.", "state")
        newest = live.view().releases
        unsolved = select(DeadLetter.lake, func.count()).where(DeadLetter.solved.is_(None))
        with live.state.read() as session:
            for lake in live.lakes:
                last = last_good_look(session, lake)
                if last is not None:
                    look.add_metric([lake], (now - last.started).total_seconds())
                if lake in newest:
                    release.add_metric([lake], (now - newest[lake].created).total_seconds())
                of_lake = select(PassTimes).where(PassTimes.lake == lake, PassTimes.served.is_not(None))
                one = session.scalars(of_lake.order_by(PassTimes.served.desc(), PassTimes.acquired.desc())).first()
                if one is not None and one.served is not None:
                    latency.add_metric([lake], (one.served - one.produced).total_seconds())
            for family, query in (
                (failed, select(Look.lake, func.count()).where(Look.error.is_not(None)).group_by(Look.lake)),
                (served, select(PassTimes.lake, func.count(PassTimes.served)).group_by(PassTimes.lake)),
                (alerts, select(Alert.lake, func.count()).where(Alert.stage != "closed").group_by(Alert.lake)),
                (letters, unsolved.group_by(DeadLetter.lake)),
                (jobs, select(Job.state, func.count()).group_by(Job.state)),
                (outbox, select(Delivery.state, func.count()).group_by(Delivery.state)),
            ):
                found = {str(label): int(count) for label, count in session.execute(query)}
                known: Iterable[str] = () if family in (jobs, outbox) else live.lakes
                for label, count in (dict.fromkeys(known, 0) | found).items():
                    family.add_metric([label], count)
        yield from (look, failed, release, served, latency, alerts, letters, jobs, outbox)
