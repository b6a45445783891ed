"""Who may see the console and who may change something with it. Knows names, roles and tokens; knows no HTTP.

Notable choices:
- One form of credentials: a name, a role and a token each. The name is what the history will say.
- Without credentials the console is its user's own, on loopback only.
- Tokens are compared as digests, all of them whatever the name, so that time tells neither names nor tokens.
"""

import getpass
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from ops.errors import OpsError
from streamer.settings import Settings

if TYPE_CHECKING:
    from ops.console.staging import Staged

TOKEN_CHARACTERS_MIN = 16
SESSION_S = 12 * 3600.0  # without a request
SESSIONS_MAX = 1_000
TRIES, TRIES_S = 10, 60.0  # wrong ones, until nobody of that address may try for the rest of the minute
ADDRESSES_MAX = 10_000
_NAME = re.compile(r"[\w.@+-]{1,64}")


class Role(StrEnum):
    """What a user may do."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class User:
    """One who may come in; of the token only the digest is kept."""

    name: str
    role: Role
    digest: bytes = field(repr=False)


@dataclass
class Session:
    """A user who is in, and what they have staged: it outlives a page."""

    name: str
    role: Role
    local: bool = False  # no login was asked: this machine's user
    used_s: float = 0.0
    left: bool = False
    staged: "Staged | None" = None  # thresholds that are not applied yet

    @property
    def may_write(self) -> bool:
        return self.role is Role.WRITE


def parse_users(text: str) -> list[User]:
    """`NAME:ROLE:TOKEN`, separated by white space.

    Raises:
        OpsError: saying which entry is wrong and how, never the token.
    """
    users: list[User] = []
    for number, entry in enumerate(text.split(), 1):
        name, _, rest = entry.partition(":")
        role, _, token = rest.partition(":")
        where = f"entry {number} of TAGSTREAM_CONSOLE_USERS"
        if not _NAME.fullmatch(name) or role not in set(Role):
            raise OpsError(f"{where} is not NAME:ROLE:TOKEN with a role of {' or '.join(Role)}.")
        if len(token) < TOKEN_CHARACTERS_MIN:
            raise OpsError(f"{where}, of {name}: a token has {TOKEN_CHARACTERS_MIN} characters at least.")
        if name in {user.name for user in users}:
            raise OpsError(f"{where}: {name} is there twice.")
        users.append(User(name, Role(role), _digest(token)))
    return users


def users_of(settings: Settings) -> list[User]:
    """The users that the environment names."""
    return parse_users(settings.console_users.get_secret_value())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address that is listened on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_an_open_door(host: str, users: Sequence[User]) -> None:
    """That nobody is let in from elsewhere without credentials.

    Raises:
        OpsError: where it would be so.
    """
    if not users and not is_loopback(host):
        raise OpsError(
            f"the console will not listen on {host} without credentials: set TAGSTREAM_CONSOLE_USERS (or _FILE) to "
            "NAME:ROLE:TOKEN, with read or write as the role, or leave the host at 127.0.0.1."
        )


class Door:
    """Lets people in and remembers who is in. Without users everybody is this machine's user."""

    def __init__(
        self, users: Sequence[User], *, read_only: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._users = list(users)
        self._read_only = read_only
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._wrong: dict[str, deque[float]] = {}
        self._local = None if users else Session(getpass.getuser(), self._role(Role.WRITE), local=True)

    def _role(self, role: Role) -> Role:
        return Role.READ if self._read_only else role

    def enter(self, name: str, token: str, address: str) -> str | None:
        """A new session's key; None for a wrong name or token.

        Raises:
            OpsError: after too many wrong ones from that address.
        """
        wrong = self._wrong.setdefault(address, deque(maxlen=TRIES))
        if len(wrong) == TRIES and self._clock() - wrong[0] < TRIES_S:
            raise OpsError(f"too many wrong tries from {address}: wait a minute.")
        digest, found = _digest(token), None
        for user in self._users:
            same_name = hmac.compare_digest(user.name.encode(), name.encode("utf-8", "replace"))
            if hmac.compare_digest(user.digest, digest) and same_name:
                found = user
        if found is None:
            wrong.append(self._clock())
            while len(self._wrong) > ADDRESSES_MAX:
                del self._wrong[next(iter(self._wrong))]
            return None
        del self._wrong[address]
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used_s)]
        key = secrets.token_urlsafe(32)
        self._sessions[_digest(key)] = Session(found.name, self._role(found.role), used_s=self._clock())
        return key

    def session(self, key: str | None) -> Session | None:
        """The session of a key, still valid; the local one where no login is asked."""
        if self._local is not None:
            return self._local
        found = self._sessions.get(_digest(key)) if key else None
        if found is None or self.is_over(found):
            return None
        found.used_s = self._clock()
        return found

    def is_over(self, session: Session) -> bool:
        """Whether it was left, or nobody has used it for long: pages that are still open end."""
        return session.left or (not session.local and self._clock() - session.used_s > SESSION_S)

    def leave(self, key: str | None) -> None:
        """End a session."""
        found = self._sessions.pop(_digest(key), None) if key else None
        if found is not None:
            found.left = True


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
