"""docker-compose.yml, really run: 5,000 tracks through it, a threshold swapped, a worker killed, all decided.

`make compose-test` prepares engine and images and runs this. It ends with 0 only if all of it holds.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ops.local.process import free_ports
from tests.compose.stack import ROOT, Failed, HealthBeat, Stack, eventually

TRACKS = 10_000  # a quarter of them is `val`
HALF = TRACKS // 4
STREAMED = 2 * HALF  # of `train` before the swap, `val` after it
RATE_PER_S = 60  # of the second half: a worker is killed in the middle of it
WORKERS = 2
DATA = "/data/catalogue"
SWAP_BY = 0.1
PUBLISHED = dict(zip(("console", "grafana"), free_ports(2), strict=True))
UP_S, TRAIN_S, RESTART_S, SCRAPED_S = 300.0, 900.0, 90.0, 90.0
LASTING = ("kafka", "redis", "worker", "console", "prometheus", "grafana")
began_s = time.monotonic()


def tell(text: str) -> None:
    """A step, with the time since the beginning."""
    print(f"[{time.monotonic() - began_s:6.1f} s] {text}", flush=True)


def bring_up(stack: Stack) -> None:
    """As the head of docker-compose.yml says."""
    stack.compose("up", "--detach", "--wait", "--no-build", timeout_s=UP_S)
    tell(f"up and healthy: {', '.join(LASTING)}; topics made by the one-shot service")


def look_at_the_walls(stack: Stack) -> None:
    """Each process as the kernel sees it, each container as the engine does."""
    for service in LASTING:
        containers = stack.containers(service)
        wanted = WORKERS if service == "worker" else 1
        if len(containers) != wanted:
            raise Failed(f"{service}: {len(containers)} containers instead of {wanted}")
        for container in containers:
            known, process = stack.look(container), stack.process(container)
            host = known["HostConfig"]
            rights = {
                "root": process["Uid"].split()[1] == "0",
                "capabilities": int(process["CapEff"], 16) != 0,
                "new privileges": process["NoNewPrivs"] != "1",
                "a writable root": not host["ReadonlyRootfs"],
                "memory without limit": not host["Memory"],
            }
            if found := [name for name, there in rights.items() if there]:
                raise Failed(f"{service} has {', '.join(found)}")
            doors = [door for doors in (host.get("PortBindings") or {}).values() for door in doors or []]
            wanted_doors = [("127.0.0.1", str(PUBLISHED[service]))] if service in PUBLISHED else []
            if [(door["HostIp"], str(door["HostPort"])) for door in doors] != wanted_doors:
                raise Failed(f"{service} publishes {doors} instead of {wanted_doors}")
            if stray := [text for text in known["Config"]["Env"] if re.search(r"(PASSWORD|TOKEN|_URL|USERS)=", text)]:
                raise Failed(f"{service} has secrets in its environment: {stray}")
    tell("no root, no capability, no writable root, memory limited; published: console and Grafana, on 127.0.0.1")


def teach(stack: Stack) -> None:
    """The trainer's model, promoted; both workers obey it."""
    stack.job("trainer", "data", "synthesize", "--tracks", TRACKS, "--out", DATA)
    said = stack.job("trainer", "train", "--data", DATA, "--config", "upstream", "--json", timeout_s=TRAIN_S)
    version = json.loads(said)["model"]
    tell(f"trained without a network: {version} in {json.loads(said)['seconds']:.0f} s")
    stack.tagstream("models", "promote", version, "--why", "the first")
    for container in stack.containers("worker"):
        ready = ("exec", container, "python", "-m", "ops.compose.health", "http://127.0.0.1:9464/health")
        eventually(lambda ready=ready: _succeeds(stack, *ready), RESTART_S, "both workers are ready")
    tell("promoted; both workers are ready")
    found = json.loads(stack.engine("exec", stack.containers("worker")[0], "tagstream", "doctor", "--json"))
    if not found["ok"]:
        raise Failed(f"the doctor, in a worker's container: {found}")
    tell(f"the doctor is content in a worker's container: {len(found['findings'])} findings")


def _succeeds(stack: Stack, *words: str) -> bool:
    try:
        stack.engine(*words)
    except Failed:
        return False
    return True


def stream(stack: Stack) -> None:
    """Half of the load, a swap, the other half, and a kill in the middle of that."""
    stack.job("cli", "produce", "--data", DATA, "--split", "train", "--limit", HALF)
    first = stack.tagstream("tail", "--topic", "tags", "--from", "earliest", "--limit", HALF)
    tell(f"{len(first['records']):,} tracks are decided")
    swap(stack)
    victim = stack.containers("worker")[0]
    before = taken(stack, victim)
    with ThreadPoolExecutor() as beside:
        load = beside.submit(stack.job, "cli", "produce", "--data", DATA, "--split", "val", "--rate", RATE_PER_S)
        eventually(lambda: taken(stack, victim) > before, RESTART_S, "the other half flows")
        kill(stack, victim)
        if load.done():
            raise Failed("the load was over before the kill")
        load.result(HALF / RATE_PER_S + RESTART_S)
    tell(f"{STREAMED:,} events are in Kafka")


def taken(stack: Stack, worker: str) -> float:
    """How many tracks a worker has taken in, by its own metrics."""
    page = stack.engine("exec", worker, "python", "-m", "ops.compose.health", "http://127.0.0.1:9464/metrics")
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("tagstream_tracks_in_total"))


def swap(stack: Stack) -> None:
    """One threshold, by the command line."""
    table = stack.tagstream("thresholds", "show", "--no-scores")
    tag, threshold = next((row["tag"], row["live"]) for row in table["tags"] if row["live"] != "off")
    written = stack.tagstream("thresholds", "set", f"{tag}={float(threshold) + SWAP_BY:.6f}", "--why", "compose-test")
    obeyed = ", ".join(f"{name} after {ms:.0f} ms" for name, ms in written["obeyed_ms"].items())
    tell(f"threshold of {tag!r} {threshold} -> {float(threshold) + SWAP_BY:.3f}; obeyed by {obeyed}")


def kill(stack: Stack, victim: str) -> None:
    """SIGKILL to the process of one worker's container; the engine starts it again."""
    pid = int(stack.process(victim)["pid"])
    os.kill(pid, signal.SIGKILL)
    tell(f"kill -9 of worker container {victim[:12]} (pid {pid})")
    eventually(
        lambda: (state := stack.look(victim)["State"])["Running"] and state["Pid"] not in (0, pid),
        RESTART_S,
        "the engine starts the killed container again",
    )
    tell(f"the engine has started it again (pid {stack.process(victim)['pid']})")


def asked_of_grafana(path: str) -> dict[str, Any]:
    """What the port that is published for Grafana answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PUBLISHED["grafana"], timeout=60)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def judge(stack: Stack) -> None:
    """The contract, by the checker of the chaos tests, from inside the network."""
    options = ("-v", f"{ROOT / 'tests'}:/judge/tests:ro", "-e", "PYTHONPATH=/judge", "--entrypoint", "python")
    found = json.loads(stack.job("cli", "-m", "tests.compose.judge", STREAMED, options=options))
    tell(f"the checker agrees: {json.dumps(found)}")
    if found["decided"] != STREAMED or found["tracks"] != STREAMED or len(found["thresholds"]) != 2:
        raise Failed(f"not {STREAMED} tracks decided under two tables")


def look_at_the_dashboards() -> None:
    """Every query of every provisioned dashboard has an answer from the provisioned data source."""

    def silent() -> list[str] | None:
        found = asked_of_grafana("/queries")
        if "error" in found:
            raise Failed(f"the data source: {found['error']}")
        return [name for name, series in found.items() if not series] or None

    deadline_s = time.monotonic() + SCRAPED_S
    while (left := silent()) and time.monotonic() < deadline_s:
        time.sleep(2)
    if left:
        raise Failed(f"no answer to {left}")
    tell(
        f"all {len(asked_of_grafana('/queries'))} queries of the dashboards are answered through Grafana's data source"
    )


def visit_the_console(stack: Stack, secrets: Path) -> None:
    """In by the token, not without; both workers are on its first page."""
    name, _, token = (secrets / "console_users").read_text().strip().split(":")
    here = f"127.0.0.1:{PUBLISHED['console']}"

    def ask(method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(here, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, (answer.getheader("Set-Cookie") or "").partition(";")[0], answer.read().decode()

    if ask("GET", "/overview")[0] != 303:
        raise Failed("the console lets in who has no token")
    form = urllib.parse.urlencode({"name": name, "token": token})
    _, cookie, _ = ask(
        "POST", "/login", form, Origin=f"http://{here}", Content_Type="application/x-www-form-urlencoded"
    )
    status, _, page = ask("GET", "/overview", Cookie=cookie)
    unseen = [worker for worker in stack.containers("worker") if worker[:12] not in page]
    if status != 200 or unseen:
        raise Failed(f"the console answers {status} and does not show {unseen}")
    tell("the console lets in who has the token, and only him; it shows both workers")


def restart_redis(stack: Stack) -> None:
    """What ops have set survives it: the file that is appended to."""
    before = stack.tagstream("thresholds", "show", "--no-scores", "--changed")
    stack.compose("restart", "redis")
    after = eventually(lambda: _table(stack), RESTART_S, "Redis answers again")
    if after["tags"] != before["tags"] or not before["tags"]:
        raise Failed(f"Redis came back with {after['tags']} instead of {before['tags']}")
    tell("Redis restarted; the changed threshold is still there")


def _table(stack: Stack) -> dict[str, Any] | None:
    try:
        return stack.tagstream("thresholds", "show", "--no-scores", "--changed")
    except Failed:
        return None


def drain(stack: Stack) -> None:
    """Workers that are stopped drain, and end with 0."""
    workers = stack.containers("worker")
    stack.compose("stop", "worker", timeout_s=120)
    codes = [stack.look(worker)["State"]["ExitCode"] for worker in workers]
    if any(codes):
        raise Failed(f"stopped workers ended with {codes}")
    tell("both workers drained at SIGTERM and ended with 0")


def main() -> int:
    """All of it; what it made is gone afterwards, also when it is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix=f"compose-{uuid.uuid4().hex[:6]}-") as folder:
        secrets = Path(folder) / "secrets"
        subprocess.run([ROOT / "ops" / "compose" / "secrets.sh", secrets], check=True, stdout=subprocess.DEVNULL)
        ports = {f"{name.upper()}_PORT": str(port) for name, port in PUBLISHED.items()}
        stack = Stack({"SECRETS_DIR": str(secrets), **ports})
        with HealthBeat(stack):
            try:
                bring_up(stack)
                look_at_the_walls(stack)
                teach(stack)
                stream(stack)
                judge(stack)
                look_at_the_dashboards()
                visit_the_console(stack, secrets)
                restart_redis(stack)
                drain(stack)
            except (Failed, subprocess.TimeoutExpired) as error:
                tell(f"FAILED: {error}")
                print(stack.logs())
                return 1
            finally:
                stack.compose("--profile", "*", "down", "--volumes", "--timeout", "40", "--remove-orphans")
    tell("all of it holds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
