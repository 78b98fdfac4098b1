"""Prometheus metrics of a driver, served over HTTP while it runs. Names and meanings: docs/monitoring.md."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from manifests.errors import InputError
from pipeline.model_tally import ModelState
from pipeline.progress import say
from pipeline.sampling_state import SamplingState

_COMMIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class SamplingCollector(Collector):
    """Reads the state at each scrape, so that nothing is counted twice and a unit costs nothing more."""

    def __init__(self, state: SamplingState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Yield every metric with its present value."""
        found = self._state.snapshot()
        totals = found["totals"]
        yield _gauge("models", "Generators by state.", "state", {s.value: found["models"][s] for s in ModelState})
        outcomes = {name: found["images"][name] for name in ("ok", "flagged", "degenerate", "failed")}
        yield _gauge("images", "Committed draws by outcome, of the winning generations.", "outcome", outcomes)
        yield _gauge("failures", "Committed draws that are not ok, by reason.", "reason", found["reasons"])
        yield _plain("images_wanted", "Images wanted of all generators.", found["images"]["wanted"])
        yield _plain("images_missing", "Images that no commit covers.", found["images"]["missing"])
        yield _plain("images_lost", "Images that a commit covers and does not have.", found["images"]["lost"])
        yield _plain("units_waiting", "Units that wait for a worker.", found["units"]["waiting"])
        yield _plain("units_running", "Units that a worker holds.", found["units"]["running"])
        yield _plain("units_quarantined", "Units that wait for their final pass.", len(found["quarantined"]))
        yield _plain("images_per_second", "Images a second over the last ten minutes.", found["images_per_second"])
        yield _plain("covered_per_second", "Wanted images that commits cover, a second.", found["covered_per_second"])
        if found["idle_share"] is not None:
            yield _plain("device_idle_share", "Share of workers' time in which none sampled.", found["idle_share"])
        if found["eta_seconds"] is not None:
            yield _plain("eta_seconds", "Seconds until no image is missing.", found["eta_seconds"])
        yield _counter("units_ended", "Units done or given up by this driver.", found["units"]["ended"])
        yield _counter("units_given_up", "Units that ended without images, over all drivers.", totals["given_up"])
        yield _counter("retries", "Units tried again, over all drivers.", totals["retries"])
        deaths = CounterMetricFamily(
            "commforge_worker_deaths", "Workers that died under a unit; signal 0 is unknown.", labels=["signal"]
        )
        for signal, count in totals["deaths"].items():
            deaths.add_metric([signal], count)
        yield deaths
        yield _counter("fetched_bytes", "Bytes fetched from the hub.", totals["fetched"])
        yield _counter("saved_bytes", "Bytes that another model had brought already.", totals["saved"])
        seconds = CounterMetricFamily("commforge_worker_seconds", "Workers' time by what it went into.", labels=["on"])
        for name in ("waited", "loading", "sampling"):
            seconds.add_metric([name], totals[name])
        seconds.add_metric(["all"], totals["worker_seconds"])
        yield seconds


class Metrics:
    """The metrics of one driver: those of its process from the start, those of sampling while it samples."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sampling: SamplingCollector | None = None
        ProcessCollector(registry=self.registry)
        self.commit_seconds = Histogram(
            "commforge_commit_seconds",
            "Seconds that one commit took.",
            buckets=_COMMIT_BUCKETS,
            registry=self.registry,
        )

    def follow(self, state: SamplingState) -> None:
        """Serve the metrics of `state` from now on, in place of an earlier one's."""
        if self._sampling is not None:
            self.registry.unregister(self._sampling)
        self._sampling = SamplingCollector(state)
        self.registry.register(self._sampling)


@contextmanager
def served(metrics: Metrics, port: int) -> Iterator[int]:
    """Serve the metrics on every address of this machine while the block runs; gives the port, which 0 leaves open.

    Raises:
        InputError: the port is taken, or may not be used.
    """
    try:
        server, thread = start_http_server(port, registry=metrics.registry)
    except OSError as error:
        raise InputError(f"execute.metrics_port = {port}: cannot be served: {error.strerror or error}") from error
    say(f"metrics: http://localhost:{server.server_port}/metrics")
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _plain(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"commforge_{name}", meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"commforge_{name}", meaning, value=value)


def _gauge(name: str, meaning: str, label: str, values: dict[str, Any]) -> Metric:
    family = GaugeMetricFamily(f"commforge_{name}", meaning, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
