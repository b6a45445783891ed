"""Who gets into the console: credentials, roles, sessions, and no open door."""

import pytest

from ops.console.access import SESSION_S, TRIES, TRIES_S, Door, Role, is_loopback, parse_users, refuse_an_open_door
from ops.errors import OpsError

ANNA, BEN = "anna:write:0123456789abcdef", "ben:read:fedcba9876543210"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def a_door(clock: Clock | None = None, **more) -> Door:
    return Door(parse_users(f"{ANNA}\n{BEN}"), clock=clock or Clock(), **more)


def test_users_have_a_name_a_role_and_a_token_that_nobody_sees():
    anna, ben = parse_users(f" {ANNA} \n\t{BEN}")
    assert (anna.name, anna.role, ben.name, ben.role) == ("anna", Role.WRITE, "ben", Role.READ)
    assert "0123456789abcdef" not in repr(anna)
    with_colons = parse_users("anna:read:a:b:c:d:e:f:g:h:i:j")
    assert Door(with_colons).enter("anna", "a:b:c:d:e:f:g:h:i:j", "here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("anna", "entry 1 .* is not NAME:ROLE:TOKEN"),
        (f"{ANNA} ben:admin:0123456789abcdef", "entry 2 .* role of read or write"),
        ("an/na:read:0123456789abcdef", "is not NAME:ROLE:TOKEN"),
        ("anna:write:short", "of anna: a token has 16 characters at least"),
        (f"{ANNA} {ANNA}", "anna is there twice"),
    ],
)
def test_a_wrong_entry_is_named_without_its_token(text, said):
    with pytest.raises(OpsError, match=said) as told:
        parse_users(text)
    assert "0123456789abcdef" not in str(told.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "console.example"])
def test_nobody_is_let_in_from_elsewhere_without_credentials(host):
    with pytest.raises(OpsError, match="TAGSTREAM_CONSOLE_USERS"):
        refuse_an_open_door(host, [])
    refuse_an_open_door(host, parse_users(ANNA))


def test_loopback_needs_no_credentials():
    for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        assert is_loopback(host)
        refuse_an_open_door(host, [])
    session = Door([]).session(None)
    assert session is not None and session.local and session.may_write
    assert not Door([], read_only=True).session(None).may_write


def test_a_name_and_its_own_token_open_and_nothing_else_does():
    door = a_door()
    key = door.enter("anna", "0123456789abcdef", "here")
    assert door.session(key).name == "anna" and door.session(key).may_write
    assert not door.session(door.enter("ben", "fedcba9876543210", "here")).may_write
    for name, token in [
        ("anna", "fedcba9876543210"), ("ben", "0123456789abcdef"), ("", "0123456789abcdef"), ("anna", ""),
        ("carl", "0123456789abcdef"), ("anna\udcff", "0123456789abcdef"),
    ]:  # fmt: skip
        assert door.enter(name, token, "here") is None
    for wrong in (None, "", key + "x", "anna"):
        assert door.session(wrong) is None


def test_read_only_takes_the_role_write_from_everybody():
    door = a_door(read_only=True)
    assert not door.session(door.enter("anna", "0123456789abcdef", "here")).may_write


def test_guessing_is_stopped_by_address_for_a_while():
    clock = Clock()
    door = a_door(clock)
    for _ in range(TRIES):
        assert door.enter("anna", "wrong", "there") is None
    with pytest.raises(OpsError, match="too many wrong tries from there"):
        door.enter("anna", "0123456789abcdef", "there")
    assert door.enter("anna", "0123456789abcdef", "elsewhere")
    clock.now_s += TRIES_S
    assert door.enter("anna", "0123456789abcdef", "there")


def test_a_session_ends_when_it_is_left_or_not_used():
    clock = Clock()
    door = a_door(clock)
    key, other = (door.enter("anna", "0123456789abcdef", "here") for _ in range(2))
    open_page = door.session(key)
    door.leave(key)
    assert door.session(key) is None and door.is_over(open_page), "pages that are open end with it"
    clock.now_s += SESSION_S - 1
    assert door.session(other) is not None
    clock.now_s += SESSION_S + 1
    assert door.session(other) is None
