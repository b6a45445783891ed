"""Secrets are planted wherever one is configured, everything is run and broken, and all that comes out is searched.

Kafka's password is the worker's SASL password; Redis's stands in its URL, in which it is percent-encoded. They are
looked for as they are, encoded for a URL, in base64, and in half.
"""

import asyncio
import base64
import contextlib
import io
import os
import re
import subprocess
import sys
import traceback
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
import redis

from ops.cli.main import main
from ops.kafka_io import read_topic
from ops.local.process import free_ports
from tests.browser.stage import ConsoleProcess
from tests.harness import Artefacts, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

ROOT = Path(__file__).resolve().parents[2]
TAGSTREAM = str(Path(sys.executable).with_name("tagstream"))
KAFKA_SECRET = "kafka;S3cr3t/wörd%41 #x"
REDIS_SECRET = "redis@S3cr3t/pass:wörd%42#y"
WRONG_SECRET = "wrong@S3cr3t/gone:wörd%43#z"
TOKEN = "token@S3cr3t/door:wörd%44#w"
SECRETS = KAFKA_SECRET, REDIS_SECRET, WRONG_SECRET, TOKEN
ORDINARY = {"kafka", "redis", "wrong", "pass", "gone", "token", "door"}
BOUNDED_S = 60


def forms(secret: str) -> set[str]:
    """A secret as it might be written."""
    raw = secret.encode()
    halves = [part for part in re.split(r"[;/@:#% ]", secret) if len(part) >= 4]
    words = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        repr(secret),
        base64.b64encode(raw).decode(),
        raw.hex(),
        *halves,
    }
    return {word for word in words if word not in ORDINARY}


def leaks(text: str) -> list[str]:
    """Lines with any form of any secret."""
    words = {word for secret in SECRETS for word in forms(secret)}
    return [line[:300] for line in text.splitlines() if any(word in line for word in words)]


@pytest.fixture
def guarded(services, artefacts: Artefacts, tmp_path: Path) -> Iterator[Stream]:
    """A stream whose workers log in to Redis as a user with the planted password; the others' way in stays open."""
    plain = redis.Redis.from_url(services.redis_url, protocol=2)
    user = f"u{uuid.uuid4().hex[:8]}"
    plain.execute_command("ACL", "SETUSER", user, "on", f">{REDIS_SECRET}", "~*", "&*", "+@all")
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts)
    at = urlsplit(services.redis_url)
    stream.worker_settings |= {
        "redis_url": f"redis://{user}:{quote(REDIS_SECRET, safe='')}@{at.hostname}:{at.port}{at.path}",
        "log_level": "debug",
    }
    try:
        yield stream
    finally:
        stream.close()
        plain.execute_command("ACL", "DELUSER", user)
        plain.close()


def process_files(pid: int) -> str:
    """Argument lists of a process and its children."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "status").read_text()
            if path.name == str(pid) or f"PPid:\t{pid}\n" in status:
                found.append((path / "cmdline").read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(found)


def redis_dump(stream: Stream) -> str:
    """Every key of this stream, whatever its type."""
    found = []
    for key in stream.redis.scan_iter(f"{stream.settings.redis_prefix}*"):
        kind = stream.redis.type(key)
        read = {"hash": stream.redis.hgetall, "string": stream.redis.get, "stream": stream.redis.xrange}[str(kind)]
        found.append(f"{key} {read(key)}")
    return "\n".join(found)


async def topic_text(stream: Stream, topic: str) -> str:
    async with aclosing(read_topic(stream.settings, topic, from_start=True, follow=False)) as records:
        return "\n".join([f"{record.headers} {record.value!r}" async for record in records])


def test_a_worker_tells_no_secret_at_work_or_in_trouble(guarded: Stream):
    """At debug level, with dead letters, and then with its password taken away under it."""
    (worker,) = guarded.start("only")
    guarded.load(300, bad_every=10).finish()
    guarded.settle()
    pages = []
    for page in ("metrics", "health", "health/live"):
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/{page}", timeout=5) as answer:
            pages.append(answer.read().decode())
    eventually(lambda: guarded.heartbeat("only"), 10, "a heartbeat")
    seen = {
        "arguments": process_files(worker.pid),
        "redis": redis_dump(guarded),
        "pages": "\n".join(pages),
        "dead letters": asyncio.run(topic_text(guarded, guarded.settings.topic_deadletter)),
        "state": "".join(path.read_text() for path in (guarded.folder / "state").glob("*")),
    }
    user = urlsplit(str(guarded.worker_settings["redis_url"])).username
    guarded.redis.execute_command("ACL", "SETUSER", user, "resetpass", f">{WRONG_SECRET}")
    guarded.redis.execute_command("CLIENT", "KILL", "USER", user)
    eventually(lambda: "last good model" in worker.log(), 30, "Redis refuses", worker.health)
    seen["trouble"] = str(worker.health())
    worker.terminate()
    seen["log"] = worker.log()
    assert all(seen.values()), {name: len(text) for name, text in seen.items()}
    assert '"level": "debug"' in seen["log"]
    for name, text in seen.items():
        assert not leaks(text), (name, leaks(text)[:3])


def test_the_console_tells_no_secret_to_who_is_in_and_who_is_not(guarded: Stream, tmp_path: Path):
    """Every page of it, refused and let in, with Redis answering and then not any more."""
    guarded.redis.set(guarded.keys.model, guarded.artefacts.first)
    users = {"console_users": f"anna:write:{TOKEN}", "cache_dir": tmp_path / "cache"}
    console = ConsoleProcess(tmp_path / "console", {**guarded.worker_settings, **users})
    console.start()
    try:
        console.wait_ready()
        seen = asyncio.run(visits(console.url))
        seen["arguments"] = process_files(console.pid or 0)
        user = urlsplit(str(guarded.worker_settings["redis_url"])).username
        guarded.redis.execute_command("ACL", "SETUSER", user, "resetpass", f">{WRONG_SECRET}")
        guarded.redis.execute_command("CLIENT", "KILL", "USER", user)
        said = eventually(lambda: refused_by_redis(console.url), 30, "the console says that Redis refuses it")
        seen |= {f"{name} in trouble": text for name, text in said.items()}
    finally:
        console.terminate()
    seen["log"] = console.log_path.read_text(errors="replace") + "a log may be empty"
    assert all(seen.values()), {name: len(text) for name, text in seen.items()}
    for name, text in seen.items():
        assert not leaks(text), (name, leaks(text)[:3])


async def visits(url: str) -> dict[str, str]:
    """What the console answers to somebody with a wrong token, and to somebody with the right one, page by page."""
    pages = "/overview", "/thresholds", "/tracks?id=T-1", "/deadletters", "/models"
    jar = aiohttp.CookieJar(unsafe=True)  # of an address without a name
    async with aiohttp.ClientSession(url, cookie_jar=jar, headers={"Origin": url}) as session:
        seen = {}
        for name, token in (("refused", WRONG_SECRET), ("let in", TOKEN)):
            async with session.post("/login", data={"name": "anna", "token": token}) as answer:
                seen[name] = f"{answer.status} {answer.headers} {await answer.text()}"
        for page in pages:
            async with session.get(page) as answer:
                assert answer.status == 200, await answer.text()
                seen[page] = f"{answer.headers} {await answer.text()}"
    return seen


def refused_by_redis(url: str) -> dict[str, str]:
    """The same once the console has seen that its password is gone."""
    seen = asyncio.run(visits(url))
    return seen if "TAGSTREAM_REDIS_URL" in seen["/overview"] else {}


def broken_ways(stream: Stream) -> list[tuple[str, dict[str, str]]]:
    """Command lines, and the settings that break them."""
    nobody = free_ports(1)[0]
    encoded = quote(REDIS_SECRET, safe="")
    sasl = {
        "TAGSTREAM_KAFKA_SASL_PASSWORD": KAFKA_SECRET,
        "TAGSTREAM_KAFKA_SASL_USERNAME": "somebody",
        "TAGSTREAM_KAFKA_BOOTSTRAP": f"127.0.0.1:{nobody}",
        "TAGSTREAM_LOG_LEVEL": "debug",
    }
    urls = {
        "nobody there": f"redis://u:{encoded}@127.0.0.1:{nobody}/0",
        "no such host": f"redis://u:{encoded}@nowhere.invalid:6379/0",
        "not encoded": f"redis://u:{REDIS_SECRET}@127.0.0.1:{nobody}/0",
        "no such scheme": f"http://u:{encoded}@127.0.0.1:{nobody}/0",
        "no scheme": f"u:{encoded}@127.0.0.1",
        "no port": f"redis://u:{encoded}@127.0.0.1:port/0",
        "no address": f"redis://u:{encoded}@[::1/0",
        "no database": f"redis://u:{encoded}@127.0.0.1:{nobody}/zero",
        "an option": f"redis://u:{encoded}@127.0.0.1:{nobody}/0?socket_timeout={encoded}",
        "in the query": f"redis://127.0.0.1:{nobody}/0?password={encoded}",
        "TLS to nobody": f"rediss://u:{encoded}@127.0.0.1:{nobody}/0",
        "a socket": f"unix://u:{encoded}@/nowhere/redis.sock",
    }
    ways = [("thresholds show champion --json", {**sasl, "TAGSTREAM_REDIS_URL": url}) for url in urls.values()]
    for protocol in ("SASL_PLAINTEXT", "SASL_SSL", "NONSENSE", KAFKA_SECRET):
        ways.append(("topics check --json", {**sasl, "TAGSTREAM_KAFKA_SECURITY_PROTOCOL": protocol}))
    ways += [
        (
            line,
            {
                **sasl,
                "TAGSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "TAGSTREAM_REDIS_URL": urls["nobody there"],
            },
        )
        for line in (
            "worker --fail-fast",
            "models promote champion",
            "tail --topic deadletter",
            "deadletter list --json",
        )
    ]
    for users in (f"anna:admin:{TOKEN}", TOKEN, f"anna:write:{TOKEN} anna:read:{TOKEN}"):
        ways.append(("console --port 0", {**sasl, "TAGSTREAM_CONSOLE_USERS": users}))
    real = {
        "TAGSTREAM_KAFKA_BOOTSTRAP": stream.settings.kafka_bootstrap,
        "TAGSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    }
    ways.append(("topics check", {**sasl, **real}))  # a listener that knows no login
    ways.append(("topics check", {**sasl, "TAGSTREAM_BATCH_MAX": "x", "TAGSTREAM_REDIS_PASSWORD": REDIS_SECRET}))
    return ways


def in_process(line: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and output of a command; what it lets out as an exception is output too."""
    said = io.StringIO()
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["tagstream", *line.split()])
        code: object = 0
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main()
            except SystemExit as end:
                code = end.code
            except BaseException:
                code = 1
                said.write(traceback.format_exc())
    return int(code or 0), said.getvalue()  # type: ignore[call-overload]


def as_process(line: str, environment: dict[str, str], folder: Path) -> tuple[int, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("TAGSTREAM_")}
    done = subprocess.run(
        [TAGSTREAM, *line.split()],
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=BOUNDED_S,
        check=False,
        cwd=folder,
    )
    return done.returncode, done.stdout + done.stderr


def test_no_mistake_tells_a_secret(guarded: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every way of not connecting; none with a traceback."""
    common = {
        "TAGSTREAM_MODELS_DIR": str(guarded.models_dir),
        "TAGSTREAM_STATE_DIR": str(tmp_path / "s"),
        "TAGSTREAM_METRICS_PORT": "0",
    }
    for line, more in broken_ways(guarded):
        environment = common | more
        if line.startswith("worker"):
            code, output = as_process(line, environment, tmp_path)
        else:
            code, output = in_process(line, environment, monkeypatch)
        told = (line, more, output[-1500:])
        assert code != 0 and output, told
        assert not leaks(output), (leaks(output)[:3], told)
        assert "Traceback" not in output, told


def test_the_search_would_find_them():
    for secret in SECRETS:
        for form in forms(secret):
            assert leaks(f"a line with {form} in it"), form
    assert not leaks("kafka redis wrong password at redis://localhost:6379/0")


BAKED_IN = re.compile(
    r"(?i)(password|passwd|secret|token|api_?key|BEGIN [A-Z ]*PRIVATE KEY)\s*[=:]\s*(?!\{file:)[^\s$]"
)


def test_no_secret_is_baked_into_an_image():
    """Dockerfile and compose name none, and the image takes nothing from the folder but what is listed."""
    for name in ("ops/Dockerfile", "docker-compose.yml"):
        text = (ROOT / name).read_text()
        assert not BAKED_IN.search(text), name
        assert not re.search(r"(?m)^\s*(ARG|ENV)\s+\S*(PASSWORD|SECRET|TOKEN|REDIS_URL)", text), name
    ignored = (ROOT / "ops" / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line for line in ignored if line.startswith("!")}
    assert "*" in ignored and allowed == {
        "!pyproject.toml",
        "!constraints.txt",
        "!README.md",
        "!LICENSE",
        "!streamer",
        "!model",
        "!ops",
    }
    assert BAKED_IN.search("  REDIS_PASSWORD: hunter2") and not BAKED_IN.search("  PASSWORD: ${PASSWORD}")
    assert not BAKED_IN.search('  grafana_password: {file: "./secrets/grafana_password"}')
