"""Keeps docs/security.md and the users of the composed Redis in step with `ops.rights`.

Run as `python -m ops.security_docs`.
"""

import shlex
from pathlib import Path

from ops.rights import REDIS_COMMANDS, kafka_rights, redis_rules
from streamer.settings import Settings

BEGIN, END = "<!-- rights: made by `python -m ops.security_docs` -->", "<!-- end of rights -->"
PAGE = Path(__file__).parent.parent / "docs" / "security.md"
USERS = Path(__file__).parent / "compose" / "redis_acl.template"  # ops/compose/secrets.sh puts the passwords in
NOTHING = "nothing"


def rights_text() -> str:
    """The tables and the commands, markers included; under the names of the default settings."""
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    return "\n".join([BEGIN, *_kafka_table(settings), "", *_redis_table(settings), "", *_commands(settings), END])


def _kafka_table(settings: Settings) -> list[str]:
    rows = ["| principal | right on Kafka | without it fails |", "|---|---|---|"]
    for principal, needs in kafka_rights(settings).items():
        rows += [f"| {principal} | {needed.right} | `{needed.by}` |" for needed in needs]
        if not needs:
            rows.append(f"| {principal} | {NOTHING} | |")
    return rows


def _redis_table(settings: Settings) -> list[str]:
    rows = ["| principal | keys on Redis | channels | commands |", "|---|---|---|---|"]
    for principal in kafka_rights(settings):
        rules = redis_rules(principal, settings.redis_prefix) if principal in REDIS_COMMANDS else []
        cells = [" ".join(rule[1:] for rule in rules if rule[0] == mark).replace("|", "\\|") for mark in "~&+"]
        rows.append(f"| {' | '.join([principal, *(f'`{cell}`' if cell else NOTHING for cell in cells)])} |")
    return rows


def _commands(settings: Settings) -> list[str]:
    lines = ["The same as commands (`admin.properties` holds an administrator's login):", "", "```"]
    for principal, needs in kafka_rights(settings).items():
        together: dict[tuple[str, str], list[str]] = {}
        for needed in needs:
            key = str(needed.right.operation), needed.right.resource
            together.setdefault(key, []).append(needed.right.name)
        for (operation, resource), names in together.items():
            lines.append(
                "kafka-acls --bootstrap-server kafka:9093 --command-config admin.properties --add "
                f"--allow-principal User:{principal} --operation {operation} "
                + " ".join(f"--{resource} {name}" for name in names)
            )
    for principal in REDIS_COMMANDS:
        rules = redis_rules(principal, settings.redis_prefix)
        lines.append(shlex.join(["redis-cli", "ACL", "SETUSER", principal, "reset", "on", ">PASSWORD", *rules]))
    return [*lines, "```"]


def with_rights(page: str) -> str:
    """The page's text with the rights of now between its markers."""
    before, _, rest = page.partition(BEGIN)
    return before + rights_text() + rest.partition(END)[2]


def acl_template() -> str:
    """Redis's ACL file for docker-compose.yml, `@NAME@` where the hash of a password goes.

    Nobody is let in without a login; `health` may ask whether Redis lives, `admin` is for a person with redis-cli.
    """
    prefix = Settings(_env_file=None).redis_prefix  # type: ignore[call-arg]
    lines = [
        "user default off",  # on without a password it would put Redis into protected mode: loopback only
        "user health on nopass resetkeys resetchannels -@all +ping",
        "user admin on #@ADMIN@ ~* &* +@all",
    ]
    for principal in REDIS_COMMANDS:
        lines.append(" ".join([f"user {principal} on #@{principal.upper()}@", *redis_rules(principal, prefix)]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    USERS.write_text(acl_template(), encoding="utf-8")
    PAGE.write_text(with_rights(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
