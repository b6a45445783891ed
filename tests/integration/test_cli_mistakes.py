"""What a person gets wrong on the command line: one sentence, a non-zero exit, soon, and never a traceback."""

import asyncio
import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import NamedTuple

import pytest

from model.artifact import fixed_network, new_artifact
from model.registry import Registry
from model.vocabulary import Vocabulary
from ops.local.process import free_ports
from streamer.adapters.kafka_topics import create_topics
from streamer.settings import load_settings

TAGSTREAM = str(Path(sys.executable).with_name("tagstream"))
WAITED_S = 15.0  # at most, for a broker that is not there
CPU_S = 15.0  # of the slowest, which imports torch
BESIDE = 8  # on a machine that does so many things at once each second of work takes so many
HUNG_S = 180.0
AT_ONCE = 3  # processes side by side
WORDS = Vocabulary.build({"moods": {"tags": ["calm", "dark", "happy"], "categories": []}})


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with one model, a data set of its vocabulary, and things that are neither."""
    folder = tmp_path_factory.mktemp("desk")
    models = folder / "models"
    version = new_artifact(fixed_network(WORDS), WORDS, dict.fromkeys(WORDS.tags, 0.5), models)
    Registry(models).set_alias("champion", version, "test", "first")
    data = folder / "data"
    data.mkdir()
    rows = "".join(f"T-{n},0.1,0.2,0.3\n" for n in range(5))
    (data / "input_moods_tags_data.csv").write_text("ChallengeID,calm,dark,happy\n" + rows)
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "input_moods_tags_data.csv").write_text("ChallengeID,calm\nT-1,loud\n")
    (folder / "events.jsonl").write_text('{"track_id": "T-1"}\n')
    return folder


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    cpu_s: float

    @property
    def ended_soon(self) -> bool:
        """Without long waiting and without hammering; what a busy machine adds is not the command's."""
        return self.cpu_s < CPU_S and self.seconds < WAITED_S + BESIDE * self.cpu_s


def run(desk: Path, line: str, **environment: str) -> Done:
    """`tagstream LINE` in the folder; unless told otherwise neither Kafka nor Redis answers."""
    kafka, redis = free_ports(2)
    own = {name: value for name, value in os.environ.items() if not name.startswith("TAGSTREAM_")}
    given = {
        "TAGSTREAM_KAFKA_BOOTSTRAP": f"127.0.0.1:{kafka}",
        "TAGSTREAM_REDIS_URL": f"redis://127.0.0.1:{redis}/0",
        "TAGSTREAM_MODELS_DIR": str(desk / "models"),
        "TAGSTREAM_STATE_DIR": str(desk / "state" / uuid.uuid4().hex),
        "TAGSTREAM_METRICS_PORT": "0",
        "TAGSTREAM_LOG_FORMAT": "text",
    }
    started = time.monotonic()
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [TAGSTREAM, *shlex.split(line)], cwd=desk, env=own | given | environment, stdout=out, stderr=err
        )
        hung = Timer(HUNG_S, process.kill)
        hung.start()
        _, status, used = os.wait4(process.pid, 0)
        hung.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        return Done(process.returncode, out.read(), err.read(), seconds, used.ru_utime + used.ru_stime)


def assert_one_sentence(done: Done, words: str) -> None:
    """On stderr, and nothing on stdout."""
    assert done.code == 1, done
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert re.search(words, done.stderr), done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("tagstream: ") and len(lines[0]) < 400, lines
    assert done.ended_soon, done


NO_BROKER = r"no Kafka broker answers at 127\.0\.0\.1:\d+.*TAGSTREAM_KAFKA_BOOTSTRAP"
SENTENCES = {  # a command line, perhaps after a variable: what is said
    "topics check": NO_BROKER,
    "deadletter list": NO_BROKER,
    "tail --no-follow": NO_BROKER,
    "produce --file events.jsonl": NO_BROKER,
    "thresholds show": "Redis",
    "models promote champion": r"Redis at 127\.0\.0\.1:\d+ .*`eval .*tagstream local up.*` starts one",
    "models rollback": r"Redis at 127\.0\.0\.1:\d+ .*`eval .*tagstream local up.*` starts one",
    "models verify 20200101T000000Z-00000000": "no model '20200101T000000Z-00000000'",
    "score --model nonsense --data data --out x.parquet": "no model 'nonsense'",
    "data describe empty": "empty",
    "data describe nowhere": "nowhere",
    "data describe broken": "calm",
    "train --data empty": "empty",
    "train --data data": "label",
    "produce --data empty": "empty",
    "produce": "--data DIR or --file",
    "BATCH_MAX=many tail": "TAGSTREAM_BATCH_MAX",
    "METRICS_PORT=70000 deadletter list": "TAGSTREAM_METRICS_PORT",
    "KAFKA_SECURITY_PROTOCOL=TLS topics check": "TAGSTREAM_KAFKA_SECURITY_PROTOCOL",
    "KAFKA_BOOTSTRAP=, topics check": "TAGSTREAM_KAFKA_BOOTSTRAP",
}
USAGES = {  # mistyped: the usage is shown
    "nonsense": "No such command 'nonsense'",
    "tail --nonsense": "No such option",
    "produce --rate fast --data data": "--rate",
    "data synthesize --tracks 1 --out x": "--tracks",
    "train": "--data",
}
WORKERS = {  # a worker that shall not wait: the last but one line of its log says why
    "worker --fail-fast": r"no Kafka broker answers at 127\.0\.0\.1:\d+",
    "MODELS_DIR=empty worker --fail-fast": "train one and promote it",
}


@pytest.fixture(scope="module")
def outcomes(desk) -> dict[str, Done]:
    """All of it, a few side by side."""

    def one(line: str) -> Done:
        setting = re.match(r"([A-Z_]+)=(\S+) ", line)
        if setting is None:
            return run(desk, line)
        return run(desk, line[setting.end() :], **{f"TAGSTREAM_{setting[1]}": setting[2]})

    lines = [*SENTENCES, *USAGES, *WORKERS]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(lines, threads.map(one, lines), strict=True))


@pytest.mark.parametrize("line", SENTENCES)
def test_a_mistake_is_one_sentence(outcomes, line):
    assert_one_sentence(outcomes[line], SENTENCES[line])


@pytest.mark.parametrize("line", USAGES)
def test_a_mistyped_command_shows_its_usage(outcomes, line):
    done = outcomes[line]
    assert done.code == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert USAGES[line] in done.stderr and "Usage" in done.stderr


@pytest.mark.parametrize("line", WORKERS)
def test_a_worker_that_shall_not_wait_ends_and_says_why(outcomes, line):
    done = outcomes[line]
    assert done.code == 1 and "Traceback" not in done.stderr and done.ended_soon, done
    errors = [text for text in done.stderr.splitlines() if " ERROR " in text]
    assert re.search(WORKERS[line], errors[-1]), done.stderr


@pytest.mark.redis
def test_an_unknown_tag_against_a_live_table(desk, redis_url):
    where = {"TAGSTREAM_REDIS_URL": redis_url, "TAGSTREAM_REDIS_PREFIX": f"test-{uuid.uuid4().hex[:8]}:"}
    assert_one_sentence(run(desk, "thresholds set calm=0.5 --model champion", **where), "models promote")
    assert run(desk, "models promote champion", **where).code == 0
    for line, words in (
        ("thresholds set clam=0.5", "'clam' is not in the vocabulary; the nearest: calm"),
        ("thresholds set calm=1.5", r"the threshold of 'calm' is '1\.5'"),
        ("thresholds set calm", "'calm' is not TAG=VALUE"),
        ("thresholds show polka", "'polka'"),
    ):
        assert_one_sentence(run(desk, line, **where), words)


@pytest.mark.kafka
def test_files_that_cannot_be_produced(desk, kafka_bootstrap):
    names = {f"topic_{topic}": f"{uuid.uuid4().hex[:8]}.{topic}" for topic in ("probabilities", "tags", "scores")}
    names["topic_deadletter"] = f"{uuid.uuid4().hex[:8]}.deadletter"
    asyncio.run(create_topics(load_settings(kafka_bootstrap=kafka_bootstrap, **names), 1, 1))
    where = {"TAGSTREAM_KAFKA_BOOTSTRAP": kafka_bootstrap}
    where |= {f"TAGSTREAM_{name.upper()}": topic for name, topic in names.items()}
    assert_one_sentence(run(desk, "produce --file nowhere.jsonl", **where), r"nowhere\.jsonl")
    assert_one_sentence(run(desk, "produce --file data", **where), "data")
