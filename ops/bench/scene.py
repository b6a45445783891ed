"""Real workers on topics of their own, for benchmarks that ask how workers behave beside what ops do.

Serves the peers' cheap linear model, promoted as ops would. The broker and Redis may be somebody's own: every name is
this run's, and all of it is gone at the end.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka.admin import NewTopic

from ops.bench.peers import PEERS
from ops.bench.workload import Workload
from ops.errors import OpsError
from ops.local.worker import WorkerProcess
from ops.thresholds_admin import ThresholdsAdmin
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topic_contract import plan_topics
from streamer.adapters.kafka_topics import create_topics
from streamer.settings import Settings, load_settings

OnProgress = Callable[[str, int, int], None]  # what is under way, how far, of how many

READY_TIMEOUT_S = 120.0


class WorkersScene:
    """Topics, workers and a promoted model of one run."""

    def __init__(
        self, bootstrap: str, redis_url: str, folder: Path, workers: int, partitions: int, on_progress: OnProgress
    ) -> None:
        name = folder.name.removeprefix("tagstream-")
        models = folder / "models"
        models.mkdir()
        next(peer for peer in PEERS if peer.name == "tagstream-json").prepare(Workload(0), models)
        options: dict[str, Any] = {
            "kafka_bootstrap": bootstrap, "redis_url": redis_url, "redis_prefix": f"{name}:", "group": name,
            "topic_probabilities": f"{name}.probabilities", "topic_tags": f"{name}.tags",
            "topic_scores": f"{name}.scores", "topic_deadletter": f"{name}.deadletter",
            "models_dir": models, "state_dir": folder / "state", "device": "cpu",
        }  # fmt: skip
        self.settings: Settings = load_settings(**options)
        self.partitions = partitions
        self.on_progress = on_progress
        names = [f"w{number}" for number in range(workers)]
        self.workers = {one: WorkerProcess(one, options, folder=folder / one) for one in names}
        self.admin = ThresholdsAdmin(self.settings, who="bench")
        self.owners: dict[int, str] = {}  # partition -> worker

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self.workers.values() if worker.pid]

    def make_topics(self, *, stamped: bool = False) -> None:
        """The four topics; the broker's time is that of a decision where they are `stamped`."""
        if stamped:
            asyncio.run(self._create_stamped())
        asyncio.run(create_topics(self.settings, self.partitions, 1))

    async def _create_stamped(self) -> None:
        _, tags, *_ = plan_topics(self.settings, 1)
        config = {**tags.config, "message.timestamp.type": "LogAppendTime"}
        async with running(Admin(**client_options(self.settings)), self.settings) as admin:
            await admin.create_topics([NewTopic(tags.name, self.partitions, 1, topic_configs=config)])

    def start(self, why: str) -> None:
        """Everything up, the partitions shared out evenly.

        Raises:
            OpsError: they are not in time.
        """
        self.admin.promote("champion", why)
        for worker in self.workers.values():
            worker.start()
        for done, worker in enumerate(self.workers.values()):
            self.on_progress("starting workers", done, len(self.workers))
            worker.wait_ready(READY_TIMEOUT_S)
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not self.owners:
            found = self.owned()
            shares = [list(found.values()).count(name) for name in self.workers]
            if sorted(found) == list(range(self.partitions)) and min(shares) >= 1:
                self.owners = found
            elif time.monotonic() > deadline_s:
                raise OpsError(f"the workers do not share the {self.partitions} partitions: {found}.")
            else:
                time.sleep(0.1)

    def stop(self) -> None:
        """The workers end, and the services are left as they were found."""
        for worker in self.workers.values():
            worker.kill()
        asyncio.run(self._delete_topics())
        self.admin.redis.delete(*self.admin.redis.scan_iter(f"{self.settings.redis_prefix}*"))

    async def _delete_topics(self) -> None:
        ours = self.settings
        names = [ours.topic_probabilities, ours.topic_tags, ours.topic_scores, ours.topic_deadletter]
        async with running(Admin(**client_options(ours)), ours) as admin:
            await admin.delete_topics(names)

    def owned(self) -> dict[int, str]:
        """Partition -> worker, as the workers say."""
        found: dict[int, str] = {}
        for name, worker in self.workers.items():
            mine = worker.health().get("partitions")
            found |= dict.fromkeys(mine if isinstance(mine, list) else (), name)
        return found
