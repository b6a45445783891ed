"""The Faust app: one agent over a bounded channel of record batches, and what Faust does around it.

Faust joins the consumer group, rebalances, runs the agent and serves /metrics and /health; the data path is
`pipeline.py`. Everything is made by `create_app`, nothing at import time.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from typing import Any, NoReturn

import faust
from faust.app.base import BootStrategy
from faust.types.auth import CredentialsT
from faust.web import Request, Response, View
from mode import Service
from yarl import URL

from streamer.adapters.faust_transport import BulkConsumer, BulkTransport
from streamer.adapters.kafka_client import client_options
from streamer.adapters.logs import ERASE_LINE, configure_logging
from streamer.adapters.metrics import PrometheusMetrics
from streamer.bootstrap import compose
from streamer.core.batch import RecordBatch
from streamer.core.errors import TagstreamError
from streamer.core.lease import Lease
from streamer.lifecycle import Lifecycle
from streamer.pipeline import Pipeline
from streamer.settings import Settings, misspelt_variables
from streamer.watchdog import Stalled

log = logging.getLogger(__name__)

CHANNEL_RECORD_BATCHES = 8  # waiting for the agent; each at most what one poll hands over (bounded_poll.POLL_BYTES)
FETCH_BYTES = 4 << 20  # per partition and fetch, as it was compressed
REQUEST_TIMEOUT_S = 30.0
METADATA_MAX_AGE_S = 5.0  # a look at the topic that failed is not repeated sooner, and its group has no partitions then
LONGEST_PAUSE_S = 7 * 24 * 3600.0  # between polls: a worker that waits keeps its partitions; a stall is our own affair
STOP_BY_FORCE_S = 29.0  # after SIGTERM; an orchestrator kills at 30
PROGRESS_S = 1.0
DRAIN_STALLED_S = 0.5  # what has not moved for so long will not move now


class WorkerBoot(BootStrategy):
    """Faust's own order, with the lifecycle before the consumer, and without Faust's producer and tables."""

    enable_kafka_producer = False

    def server(self) -> Iterable[Any]:
        return self._chain(
            self.sensors(),
            self.web_server(),
            [self.app.lifecycle_service],  # type: ignore[attr-defined]
            self.kafka_consumer(),
            self.agents(),
            self.kafka_conductor(),
            self.tables(),
        )


class WorkerApp(faust.App):
    """A Faust app that carries its lifecycle; `exit_code` is what the process ends with."""

    BootStrategy = WorkerBoot
    lifecycle_service: "LifecycleService"
    exit_code = 0
    worker: "Worker | None" = None

    def _create_directories(self) -> None:
        """Faust's data folder is for tables; there are none."""

    def _on_rebalance_when_stopped(self) -> None:
        """Faust closes the consumer here, under the drain that has still to commit; ours waits (`consumer_thread`)."""

    def end(self, exit_code: int) -> None:
        """Stop in order: drain, commit, leave the group; then exit with this code."""
        self.exit_code = exit_code
        if self.worker is not None:
            self.worker.begin_shutdown()


class LifecycleService(Service):
    """Runs `Lifecycle` inside Faust's service tree: before the consumer starts, and until after it has stopped."""

    def __init__(
        self, app: WorkerApp, lifecycle: Lifecycle, channel: Any, settings: Settings, lease: Lease, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.lifecycle = lifecycle
        self._channel = channel
        self._settings = settings
        self._lease = lease

    async def on_start(self) -> None:
        try:
            pipeline = await self.lifecycle.prepare()
        except TagstreamError as error:
            log.error("%s", error)
            self.app.end(1)
            pipeline = None
        if pipeline is None:  # the end cancels this start: what comes after it, Kafka, must not begin
            await asyncio.Event().wait()
            return
        gc.collect()
        gc.freeze()  # what torch and Faust have made so far stays: a full collection over it stops the loop for 90 ms
        consumer = self.app.consumer
        assert isinstance(consumer, BulkConsumer)
        consumer.intake = pipeline
        consumer.lease = self._lease
        consumer.deliver = self._channel.put
        consumer.drain_s = self._settings.drain_s
        consumer.topic, consumer.group = self._settings.topic_probabilities, self._settings.group
        consumer.made_partitions = self.lifecycle.input_partitions
        consumer.give_up = self._give_up
        self.lifecycle.consumer = consumer
        self.add_future(self._watch(pipeline))
        self.add_future(self._watch_faust())
        self.add_future(self._side_task(self.lifecycle.follow()))
        self.add_future(self._side_task(self.lifecycle.beat()))
        self.add_future(self._side_task(self.lifecycle.watch()))
        self.add_future(self._side_task(self.lifecycle.redecide()))
        if sys.stderr.isatty():
            self.add_future(self._progress())

    async def _watch(self, pipeline: Pipeline) -> None:
        """A pipeline that has failed ends the worker: it never half-lives."""
        try:
            await asyncio.shield(pipeline.failed)
        except asyncio.CancelledError:
            return
        except TagstreamError as error:
            log.error("cannot go on: %s", error)
        except Exception:
            log.exception("cannot go on")
        self.app.end(1)

    async def _watch_faust(self) -> None:
        """A crash among Faust's services ends the worker too, even where their own way down hangs."""
        await self.app._crashed.wait()
        log.error("cannot go on: Faust has crashed (%r)", self.app.crash_reason)
        self.app.end(1)

    async def _side_task(self, work: Any) -> None:
        """Side tasks run for as long as the worker: one that dies ends it."""
        try:
            await work
        except Stalled as error:
            consumer = self.app.consumer
            assert isinstance(consumer, BulkConsumer)
            consumer.drain_s = min(consumer.drain_s, DRAIN_STALLED_S)
            self._give_up(error)
        except TagstreamError as error:
            self._give_up(error)
        except Exception:
            log.exception("a side task died")
            self.app.end(1)

    def _give_up(self, error: TagstreamError) -> None:
        log.error("cannot go on: %s", error)
        self.app.end(1)

    async def _progress(self) -> None:
        while not self.should_stop:
            await self.sleep(PROGRESS_S)
            sys.stderr.write(f"{ERASE_LINE}{self.lifecycle.progress_line()}")
            sys.stderr.flush()

    async def on_stop(self) -> None:
        await self.lifecycle.stop()


class Worker(faust.Worker):
    """Faust's worker, with a hard end: a drain that hangs must not outlive the orchestrator's patience."""

    app: WorkerApp

    def install_signal_handlers(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        log.info("%s: draining", signal.Signals(number).name)
        self.begin_shutdown()

    def begin_shutdown(self) -> None:
        self.app.lifecycle_service.lifecycle.stopping = True
        guard = threading.Timer(STOP_BY_FORCE_S, _exit_by_force)
        guard.daemon = True
        guard.start()
        self._flag_as_shutdown_by_signal()
        self._schedule_shutdown(signal.SIGTERM)


def _exit_by_force() -> None:
    sys.stderr.write(f"not drained within {STOP_BY_FORCE_S:g} s: exiting; what is not committed is delivered again\n")
    sys.stderr.flush()
    os._exit(1)


def create_app(settings: Settings, *, fail_fast: bool = False) -> WorkerApp:
    """The worker's Faust app. Call inside the event loop that will run it."""
    bootstrap = [f"kafka://{server.strip()}" for server in settings.kafka_bootstrap.split(",")]
    app = WorkerApp(
        settings.group,
        broker=bootstrap,
        broker_credentials=_credentials(settings),
        broker_client_id=settings.worker,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_s,
        broker_request_timeout=max(REQUEST_TIMEOUT_S, settings.session_timeout_s),
        broker_max_poll_interval=LONGEST_PAUSE_S,
        broker_commit_interval=settings.commit_interval_s,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        consumer_metadata_max_age_ms=int(METADATA_MAX_AGE_S * 1000),
        stream_wait_empty=True,  # the consumer's wait_empty is our drain
        table_standby_replicas=0,  # plain round robin over the group: no tables here
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_bind=settings.metrics_host,
        web_host=settings.metrics_host,
        web_port=_usable_port(settings.metrics_host, settings.metrics_port),
        worker_redirect_stdouts=False,
    )
    app.transport = BulkTransport([URL(url) for url in bootstrap], app)
    lifecycle, metrics, lease = compose(settings, fail_fast=fail_fast)
    channel = app.channel(maxsize=CHANNEL_RECORD_BATCHES)
    app.lifecycle_service = LifecycleService(app, lifecycle, channel, settings, lease)
    app.topics.add(app.topic(settings.topic_probabilities, key_type=bytes, value_type=bytes))
    _add_agent(app, channel, lifecycle)
    _add_pages(app, lifecycle, metrics)
    return app


def _add_agent(app: WorkerApp, channel: Any, lifecycle: Lifecycle) -> None:
    @app.agent(channel, name="tagger")
    async def tagger(stream: Any) -> None:
        batch: RecordBatch
        async for batch in stream:
            try:
                assert lifecycle.pipeline is not None
                await lifecycle.pipeline.feed(batch)
            except Exception:
                log.exception("the agent cannot go on")  # Faust would restart it one batch further: that loses it
                app.end(1)
                return


def _add_pages(app: WorkerApp, lifecycle: Lifecycle, metrics: PrometheusMetrics) -> None:
    @app.page("/metrics")
    async def metrics_page(view: View, request: Request) -> Response:
        return view.bytes(metrics.text(), content_type="text/plain; version=0.0.4")

    @app.page("/health")
    async def health_page(view: View, request: Request) -> Response:
        report = lifecycle.health()
        return view.json(report, status=200 if report["live"] and report["ready"] else 503)

    @app.page("/health/live")
    async def live_page(view: View, request: Request) -> Response:
        report = lifecycle.health()
        return view.json(report, status=200 if report["live"] else 503)


def _credentials(settings: Settings) -> CredentialsT | None:
    """Faust's form of the connection settings; TLS beside SASL must travel inside them or it is silently dropped."""
    options = client_options(settings)
    context = options.get("ssl_context")
    if settings.kafka_security_protocol.startswith("SASL_"):
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context is not None else None


def _usable_port(host: str, port: int) -> int:
    """The port itself where nobody listens on it, a free one for 0.

    Raises:
        TagstreamError: it is taken, or the address is not this machine's.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TagstreamError(
                f"/metrics and /health cannot be served at {host}:{port} ({error.strerror}): "
                "another worker may have it; set TAGSTREAM_METRICS_PORT, 0 takes a free one."
            ) from None
        return int(probe.getsockname()[1])


def run_worker(settings: Settings, *, fail_fast: bool = False) -> NoReturn:
    """Run one worker until it is told to stop; ends the process."""
    configure_logging(settings.worker, settings.log_level, settings.log_format)
    for told in misspelt_variables(os.environ):
        log.warning("%s", told)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def make() -> WorkerApp:
        return create_app(settings, fail_fast=fail_fast)

    app = loop.run_until_complete(make())
    worker = Worker(app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    app.worker = worker
    log.info("worker %s: metrics and health at http://%s:%d", settings.worker, settings.metrics_host, app.conf.web_port)
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        log.info("worker %s has stopped", settings.worker)
        if app.exit_code:  # a thread that hangs, a scorer's say, must not keep the process
            logging.shutdown()
            os._exit(app.exit_code)
        raise SystemExit(end.code) from None
