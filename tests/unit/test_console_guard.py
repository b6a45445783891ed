"""The console's web server, with neither Kafka nor Redis there: what it refuses, and that it says what is wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import WSServerHandshakeError
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from ops.console.server import Server
from ops.errors import OpsError
from ops.local.process import free_ports
from streamer.settings import load_settings

USERS = "anna:write:0123456789abcdef ben:read:fedcba9876543210"
LOGIN = {"name": "anna", "token": "0123456789abcdef"}


@asynccontextmanager
async def a_console(tmp_path, **more) -> AsyncIterator[TestClient]:
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    settings = load_settings(
        kafka_bootstrap=nowhere, redis_url=f"redis://{nowhere}/0", models_dir=tmp_path / "models", **more
    )
    async with TestClient(TestServer(Server(settings).application())) as client:
        yield client


def own(client: TestClient) -> dict[str, str]:
    """What a browser sends with a request of the console's own page."""
    return {"Origin": f"http://127.0.0.1:{client.port}"}


async def test_what_is_away_is_said_on_the_page(tmp_path):
    async with a_console(tmp_path) as client, client.ws_connect("/live/overview", headers=own(client)) as socket:
        said = ""
        while not ("Redis at 127.0.0.1" in said and "no Kafka broker answers at 127.0.0.1" in said):
            said += (await socket.receive_json(timeout=20))["regions"].get("problems", "")
        assert "does not answer" in said
        assert (await client.get("/overview")).status == 200


async def test_every_page_forbids_foreign_code_and_frames(tmp_path):
    async with a_console(tmp_path, console_users=USERS) as client:
        for path in ("/login", "/nowhere", "/overview"):
            headers = (await client.get(path, allow_redirects=False)).headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
            assert headers["X-Frame-Options"] == "DENY" and headers["X-Content-Type-Options"] == "nosniff"


async def test_a_foreign_name_that_points_here_gets_nothing(tmp_path):
    async with a_console(tmp_path) as client:
        for host in ("evil.example", "evil.example:8470", "127.0.0.1.evil.example"):
            assert (await client.get("/overview", headers={"Host": host})).status == 421
        assert (await client.get("/login", headers={"Host": f"localhost:{client.port}"})).status == 200


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1"])
async def test_a_page_of_elsewhere_opens_no_socket_and_sends_no_form(tmp_path, origin):
    headers = {} if origin is None else {"Origin": origin}
    async with a_console(tmp_path) as client:
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect("/live/overview", headers=headers)
        assert refused.value.status == 403
        assert (await client.post("/login", data=LOGIN, headers=headers)).status == 403
        async with client.ws_connect("/live/overview", headers=own(client)) as socket:
            assert "regions" in await socket.receive_json()


async def test_nothing_is_seen_before_the_login_and_all_after(tmp_path):
    async with a_console(tmp_path, console_users=USERS) as client:
        answer = await client.get("/thresholds?tag=jazz&q=a", allow_redirects=False)
        login = URL(answer.headers["Location"])
        assert (answer.status, login.path, dict(login.query)) == (303, "/login", {"next": "/thresholds?tag=jazz&q=a"})
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect("/live/overview", headers=own(client))
        assert refused.value.status == 401

        wrong = await client.post("/login", data={**LOGIN, "token": "wrong"}, headers=own(client))
        assert wrong.status == 401 and "do not go together" in await wrong.text() and not wrong.cookies

        form = {**LOGIN, "next": "/models"}
        right = await client.post("/login", data=form, headers=own(client), allow_redirects=False)
        cookie = right.headers["Set-Cookie"]
        assert (right.status, right.headers["Location"]) == (303, "/models")
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
        page = await client.get("/overview")
        assert page.status == 200 and "anna" in await page.text() and page.headers["Cache-Control"] == "no-store"

        async with client.ws_connect("/live/overview", headers=own(client)) as socket:
            await socket.receive_json()
            await client.post("/logout", headers=own(client))
            while not socket.closed:
                await socket.receive(timeout=5)
        assert (await client.get("/overview", allow_redirects=False)).status == 303


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\r\nb"])
async def test_a_login_leads_to_a_page_of_the_console_only(tmp_path, elsewhere):
    async with a_console(tmp_path, console_users=USERS) as client:
        form = {**LOGIN, "next": elsewhere}
        answer = await client.post("/login", data=form, headers=own(client), allow_redirects=False)
        assert answer.headers["Location"] == "/"


async def test_who_may_only_read_changes_nothing_by_any_verb(tmp_path):
    async with a_console(tmp_path, console_users=USERS) as client:
        form = {"name": "ben", "token": "fedcba9876543210"}
        await client.post("/login", data=form, headers=own(client))
        asked = {"thresholds": ("stage", "apply", "undo", "back"), "models": ("promote", "rollback"),
                 "deadletters": ("replay", "resume")}  # fmt: skip
        for page, verbs in asked.items():
            for verb in verbs:
                async with client.ws_connect(f"/live/{page}", headers=own(client)) as socket:
                    await socket.send_json({"do": verb, "why": "x", "tag": "x", "value": "0.5"})
                    told = ""
                    while "ben may look, not change" not in told:
                        told = (await socket.receive_json(timeout=5))["regions"].get("notices", "")


async def test_what_no_page_of_ours_sends_ends_the_socket_not_the_console(tmp_path):
    async with a_console(tmp_path) as client:
        for nonsense in ("not json", "[]", '{"do": 1}', "[" * 10_000, "x" * 20_000):
            async with client.ws_connect("/live/thresholds", headers=own(client)) as socket:
                await socket.send_str(nonsense)
                while not socket.closed:
                    await socket.receive(timeout=5)
        async with client.ws_connect("/live/thresholds", headers=own(client)) as socket:
            await socket.send_json({"do": "__init__", "value": {"a": 1}})
            await socket.send_json({"do": "move", "tag": "x", "value": "nan"})
            assert "regions" in await socket.receive_json(timeout=5)


def test_it_does_not_start_where_everybody_could_come_in(tmp_path):
    for host in ("0.0.0.0", "::"):
        with pytest.raises(OpsError, match="without credentials"):
            Server(load_settings(console_host=host))
    Server(load_settings(console_host="0.0.0.0", console_users=USERS))
