"""In Grafana's place, with its mounts and its port: what is provisioned is read, and every query of it is asked.

`/api/health` as Grafana has it; `/queries` asks the provisioned data source for every panel of every provisioned
dashboard, and says how many series each gave.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml

PROVISIONING = Path("/etc/grafana/provisioning")
PASSWORD = Path("/run/secrets/grafana_password")
SCRAPED_S = "10s"
TIMEOUT_S = 10.0


def provisioned(kind: str) -> list[dict[str, Any]]:
    """The entries of each file of this kind."""
    files = sorted((PROVISIONING / kind).glob("*.yml"))
    key = {"datasources": "datasources", "dashboards": "providers"}[kind]
    return [entry for file in files for entry in yaml.safe_load(file.read_text())[key]]


def panels() -> list[tuple[str, str, str]]:
    """Data source, title and expression of every query of every dashboard."""
    found = []
    for provider in provisioned("dashboards"):
        for file in sorted(Path(provider["options"]["path"]).glob("*.json")):
            for panel in json.loads(file.read_text())["panels"]:
                for target in panel.get("targets", []):
                    found.append((panel["datasource"]["uid"], panel["title"], target["expr"]))
    return found


def answers() -> dict[str, Any]:
    """How many series each query gives, by title and expression."""
    sources = {source["uid"]: source["url"] for source in provisioned("datasources")}
    found: dict[str, Any] = {}
    for uid, title, expr in panels():
        asked = expr.replace("$job", "tagstream").replace("$__rate_interval", "30s")
        query = urllib.parse.urlencode({"query": asked})
        with urllib.request.urlopen(f"{sources[uid]}/api/v1/query?{query}", timeout=TIMEOUT_S) as answer:
            found[f"{title}: {expr}"] = len(json.load(answer)["data"]["result"])
    return found


class Page(BaseHTTPRequestHandler):
    """The two pages."""

    def do_GET(self) -> None:
        try:
            body = answers() if self.path == "/queries" else {"database": "ok", "version": "stand-in"}
            status = 200
        except (OSError, KeyError, ValueError) as error:
            body, status = {"error": f"{type(error).__name__}: {error}"}, 500
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    assert PASSWORD.read_text(), "no password"
    Path("/var/lib/grafana/written").touch()
    HTTPServer(("0.0.0.0", 3000), Page).serve_forever()
