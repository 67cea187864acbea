"""``requestState`` brings one call back once, for who made it, and nobody else can make one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.protocol.errors import ChildUnavailable, Fault, Rejection
from bridge.protocol.messages import Request
from bridge.sessions import parking
from bridge.sessions.parking import MOST, Parking, digest
from tests.conftest import in_time

#: A busy machine is no failure.
quick = settings(max_examples=60, deadline=None)


class Call:
    """A call that counts how often nobody came back for it."""

    def __init__(self, server: str = "git") -> None:
        self.server = server
        self.expired = 0
        self.has_expired = asyncio.Event()

    def expire(self) -> None:
        self.expired += 1
        self.has_expired.set()


def request(method: str = "tools/call", id_: bytes = b"1", **params: Any) -> Request:
    return Request(id_, method, json.dumps(params).encode())


SERVER = "git"
ASKED = request(name="ask", arguments={"a": 1})


def is_refused(
    places: Parking,
    state: str,
    asked: Request = ASKED,
    principal: str = "alice",
    server: str = SERVER,
    *,
    restarted: bool | None = False,
) -> bool:
    """Whether a ``requestState`` brings nothing back; it must be told as a bad parameter.

    ``restarted``: whether it may look like one of another run, None for both.
    """
    try:
        places.take(state, asked, principal, server)
    except Rejection as rejection:
        told = rejection.data["restarted"]
        if rejection.fault is not Fault.BAD_PARAMS or (restarted is not None and told is not restarted):
            raise
        return True
    return False


async def test_a_state_brings_its_call_back_once() -> None:
    places, call = Parking(), Call()
    state = places.park(call, ASKED, "alice")
    assert len(places) == 1
    assert places.take(state, ASKED, "alice", SERVER) is call
    assert len(places) == 0
    assert is_refused(places, state)
    places.close()
    assert call.expired == 0


async def test_calls_that_are_alike_are_kept_apart() -> None:
    places = Parking()
    calls = [Call() for _ in range(5)]
    states = [places.park(call, ASKED, "alice") for call in calls]
    assert len(set(states)) == 5
    for state, call in reversed(list(zip(states, calls, strict=True))):
        assert places.take(state, ASKED, "alice", SERVER) is call
    places.close()


# Tampering

_CHARACTERS = st.sampled_from("0123456789abcdefABCDEF-_.:/ \0é\u2028") | st.characters(codec="utf-8")
mutations = st.one_of(
    st.tuples(st.just("replace"), st.integers(0, 200), _CHARACTERS),
    st.tuples(st.just("insert"), st.integers(0, 200), _CHARACTERS),
    st.tuples(st.just("remove"), st.integers(0, 200), st.integers(1, 200)),
    st.tuples(st.just("repeat"), st.integers(0, 200), st.integers(1, 200)),
    st.tuples(st.just("other name"), st.just(0), st.just(0)),
    st.tuples(st.just("other case"), st.just(0), st.just(0)),
    st.tuples(st.just("anything"), st.just(0), st.text(st.characters(codec="utf-8"))),
)


def mutated(state: str, other: str, mutation: tuple[str, int, Any]) -> str:
    kind, place, what = mutation
    place %= len(state)
    name, _, seal = state.partition(".")
    match kind:
        case "replace":
            return state[:place] + what + state[place + 1 :]
        case "insert":
            return state[:place] + what + state[place:]
        case "remove":
            return state[:place] + state[place + what :]
        case "repeat":
            return state[:place] + state[place : place + what] + state[place:]
        case "other name":
            return f"{other.partition('.')[0]}.{seal}"
        case "other case":
            return f"{name}.{seal.upper()}" if seal.upper() != seal else f"{name.swapcase()}.{seal}"
        case _:
            return str(what)


@quick
@given(st.lists(mutations, min_size=1, max_size=3))
async def test_a_state_that_was_tampered_with_is_refused_and_costs_the_good_one_nothing(
    several: list[tuple[str, int, Any]],
) -> None:
    places, call = Parking(), Call()
    state = bad = places.park(call, ASKED, "alice")
    other = places.park(Call(), request(name="other"), "alice")
    for each in several:
        bad = mutated(bad, other, each) if bad else each[0]
    assume(bad not in (state, other))
    assert is_refused(places, bad, restarted=None)
    assert places.take(state, ASKED, "alice", SERVER) is call
    places.close()


@pytest.mark.parametrize("length", [0, 1, 16, 32, 63])
async def test_the_beginning_of_a_seal_is_no_seal(length: int) -> None:
    places = Parking()
    name, _, seal = places.park(Call(), ASKED, "alice").partition(".")
    assert len(seal) == 64
    assert is_refused(places, f"{name}.{seal[:length]}")
    assert is_refused(places, name)
    places.close()


async def test_another_run_of_the_bridge_takes_no_states_of_this_one() -> None:
    one, other = Parking(), Parking()
    state = one.park(Call(), ASKED, "alice")
    other.park(Call(), ASKED, "alice")
    assert is_refused(other, state, restarted=True)
    one.close()
    other.close()


async def test_two_runs_of_the_bridge_do_not_share_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking.secrets, "token_urlsafe", lambda _: "name")
    monkeypatch.setattr(parking.secrets, "token_hex", lambda _: "run")
    one, other = Parking(), Parking()
    state = one.park(Call(), ASKED, "alice")
    assert state != other.park(Call(), ASKED, "alice")
    assert is_refused(other, state)
    one.close()
    other.close()


# Whose it is

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "é"]), inner, max_size=3),
    max_leaves=6,
)
_requests = st.fixed_dictionaries(
    {"method": st.sampled_from(["tools/call", "prompts/get", "resources/read"])},
    optional={
        "name": st.sampled_from(["ask", "tell", ""]),
        "uri": st.sampled_from(["ask", "file:///a"]),
        "arguments": _values,
    },
)


@quick
@given(_requests, _requests, st.sampled_from(["alice", "bob", ""]), st.sampled_from(["alice", "bob", ""]))
async def test_a_state_is_good_only_for_its_own_principal_and_request(
    mine: dict[str, Any], theirs: dict[str, Any], me: str, other: str
) -> None:
    assume(json.dumps(mine, sort_keys=True) != json.dumps(theirs, sort_keys=True) or me != other)
    places, call = Parking(), Call()
    state = places.park(call, request(**mine), me)
    assert is_refused(places, state, request(**theirs), other)
    assert places.take(state, request(**mine), me, SERVER) is call
    places.close()


@pytest.mark.parametrize(
    "other",
    [
        request("prompts/get", name="ask", arguments={"a": 1}),
        request("tools/Call", name="ask", arguments={"a": 1}),
        request(name="Ask", arguments={"a": 1}),
        request(uri="ask", arguments={"a": 1}),
        request(arguments={"a": 1}),
        request(name="ask"),
        request(name="ask", arguments=None),
        request(name="ask", arguments={}),
        request(name="ask", arguments={"a": "1"}),
        request(name="ask", arguments={"a": True}),
        request(name="ask", arguments={"a": [1]}),
        request(name="ask", arguments={"a": 1, "b": None}),
        request(name="ask", arguments='{"a":1}'),
        request(name="ask", uri="x", arguments={"a": 1}),
        Request(b"1", "tools/call"),
    ],
)
async def test_a_request_that_differs_is_another_one(other: Request) -> None:
    places, call = Parking(), Call()
    state = places.park(call, ASKED, "alice")
    assert is_refused(places, state, other)
    assert is_refused(places, places.park(Call(), other, "alice"))
    assert places.take(state, ASKED, "alice", SERVER) is call
    places.close()


@pytest.mark.parametrize("numbers", [(2**53, 2**53 + 1), (10**29, 10**29 + 1), (0, 1)])
async def test_big_numbers_that_differ_are_not_the_same(numbers: tuple[int, int]) -> None:
    one, other = (request(name="ask", arguments={"a": number}) for number in numbers)
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "arguments",
    ['{"a":1e999}', '{"a":-1e999}', '{"a":[1e999]}', '{"a":"1e999"}', '"1e999"', '"null"', "null", '{"a":1e400}'],
)
def test_what_python_cannot_hold_is_compared_as_it_was_written(arguments: str) -> None:
    asked = Request(b"1", "tools/call", f'{{"arguments":{arguments}}}'.encode())
    assert digest(asked) == digest(Request(b"2", "tools/call", f'{{ "arguments" : {arguments} }}'.encode()))
    for other in ('{"a":1e998}', "1e999", '"1e998"', "{}", '{"a":null}'):
        assert digest(asked) != digest(Request(b"1", "tools/call", f'{{"arguments":{other}}}'.encode()))


def spelled(value: Any, how: int) -> str:
    """The same JSON value, spelled in one of several ways."""
    match value:
        case dict():
            members = [f"{spelled(k, how)} :{spelled(v, how)}" for k, v in value.items()]
            return f"{{{' , '.join(reversed(members) if how % 2 else members)}}}"
        case list():
            return f"[ {' , '.join(spelled(item, how) for item in value)}]"
        case str():
            if how < 2:
                return json.dumps(value, ensure_ascii=how == 0)
            return f'"{escaped(value, "xX"[how % 2])}"'
        case _:
            return json.dumps(value)


def escaped(text: str, case: str) -> str:
    """Every UTF-16 unit as an escape, its digits small or large."""
    units = memoryview(text.encode("utf-16-be")).cast("B")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join("\\u" + format(high << 8 | low, f"04{case}") for high, low in pairs)


@quick
@given(_values, st.integers(0, 3), st.integers(0, 3))
async def test_equal_arguments_that_are_spelled_differently_are_the_same_request(
    value: Any, one: int, two: int
) -> None:
    def asked(how: int, id_: bytes, **more: Any) -> Request:
        params = {"name": "ask/é", "arguments": value, **more}
        return Request(id_, "tools/call", spelled(params, how).encode())

    places, call = Parking(), Call()
    state = places.park(call, asked(one, b"1"), "alice")
    again = asked(two, b'"2"', _meta={"x": 1}, inputResponses={"r0": {}}, requestState=state)
    assert places.take(state, again, "alice", SERVER) is call
    places.close()


# All of it together


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop whose time only moves when a test says so."""

    now = 0.0

    def time(self) -> float:
        return self.now


_people = st.sampled_from(["alice", "bob"])
_servers = st.sampled_from(["git", "time"])
_asked = st.sampled_from([ASKED, request(name="ask", arguments={"a": 2}), request("prompts/get", name="ask")])
_steps = st.one_of(
    st.tuples(st.just("park"), _people, _servers, _asked),
    st.tuples(st.just("take"), st.integers(0, 20), _people, _servers, _asked),
    st.tuples(st.just("replay"), st.integers(0, 20)),
    st.tuples(st.just("tamper"), st.integers(0, 20), mutations),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 250.0, parking.PATIENCE])),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_steps, max_size=30))
def test_a_state_is_good_once_in_time_for_whom_and_what_it_was_made_and_never_else(
    steps: list[tuple[Any, ...]],
) -> None:
    loop = StillLoop()
    try:
        loop.run_until_complete(_play(loop, steps))
    finally:
        loop.close()


async def _play(loop: StillLoop, steps: list[tuple[Any, ...]]) -> None:
    places = Parking()
    parked: list[tuple[str, Call, tuple[str, str, Request], float]] = []
    taken: set[str] = set()

    def take(state: str, who: str, server: str, asked: Request, *, good: bool) -> None:
        if good:
            taken.add(state)
            assert places.take(state, asked, who, server) in [call for each, call, *_ in parked if each == state]
        else:
            assert is_refused(places, state, asked, who, server)

    for kind, *what in steps:
        if kind == "park":
            who, server, asked = what
            call = Call(server)
            parked.append((places.park(call, asked, who), call, (who, server, asked), loop.now + parking.PATIENCE))
        elif kind == "wait":
            loop.now += what[0]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        elif parked:
            state, _, own, deadline = parked[what[0] % len(parked)]
            lives = state not in taken and loop.now < deadline
            if kind == "take":
                who, server, asked = what[1:]
                take(state, who, server, asked, good=lives and (who, server, asked) == own)
            elif kind == "replay":
                take(state, *own, good=lives)
                take(state, *own, good=False)
            else:
                bad = mutated(state, parked[0][0], what[1])
                if bad not in [each for each, *_ in parked]:
                    who, server, asked = own
                    assert is_refused(places, bad, asked, who, server, restarted=None)
    for state, call, _, deadline in parked:
        assert call.expired == (state not in taken and loop.now >= deadline)
    assert len(places) == sum(1 for state, _, _, end in parked if state not in taken and loop.now < end)
    places.close()


# How long, and how many


async def test_a_call_whose_user_does_not_come_back_ends_once_and_its_state_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parking, "PATIENCE", 0.0)
    places, call = Parking(), Call()
    state = places.park(call, ASKED, "alice")
    async with in_time():
        await call.has_expired.wait()
    assert is_refused(places, state)
    assert len(places) == places.count("git") == 0
    places.close()
    assert call.expired == 1


async def test_a_call_that_was_taken_in_time_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking, "PATIENCE", 0.0)
    places, taken, left = Parking(), Call(), Call()
    state = places.park(taken, ASKED, "alice")
    places.park(left, ASKED, "alice")
    assert places.take(state, ASKED, "alice", SERVER) is taken
    async with in_time():
        await left.has_expired.wait()  # its time came after that of the other
    assert taken.expired == 0


async def test_a_call_may_wait_for_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[tuple[float, asyncio.TimerHandle]] = []

    def call_later(delay: float, *callback: Any) -> asyncio.TimerHandle:
        timers.append((delay, loop.call_at(loop.time() + delay, *callback)))
        return timers[-1][1]

    monkeypatch.setattr(loop, "call_later", call_later)
    places, taken, left = Parking(), Call(), Call()
    state = places.park(taken, ASKED, "alice")
    places.park(left, ASKED, "alice")
    assert [delay for delay, _ in timers] == [600, 600]
    places.take(state, ASKED, "alice", SERVER)
    assert [timer.cancelled() for _, timer in timers] == [True, False]
    places.close()
    assert [timer.cancelled() for _, timer in timers] == [True, True]
    assert (taken.expired, left.expired) == (0, 1)


async def test_close_ends_all_that_wait_once_and_none_of_their_states_is_good() -> None:
    places = Parking()
    calls = [Call(server) for server in ("git", "time", "git")]
    states = [places.park(call, ASKED, "alice") for call in calls]
    places.close()
    places.close()
    assert [call.expired for call in calls] == [1, 1, 1]
    assert len(places) == 0
    assert all(is_refused(places, state) for state in states)


async def test_a_call_that_closes_everything_when_it_ends_ends_once() -> None:
    places = Parking()

    class Last(Call):
        def expire(self) -> None:
            super().expire()
            places.close()

    calls = [Last(), Last(), Call()]
    for call in calls:
        places.park(call, ASKED, "alice")
    places.close()
    assert [call.expired for call in calls] == [1, 1, 1]


async def test_only_so_many_calls_of_one_server_and_principal_wait() -> None:
    places = Parking()
    states = [places.park(Call("git"), ASKED, "alice") for _ in range(MOST)]
    refused = Call("git")
    with pytest.raises(ChildUnavailable, match=f"{MOST} calls") as full:
        places.park(refused, ASKED, "alice")
    assert full.value.retry_in is not None
    assert full.value.server == "git"
    assert places.count("git") == len(places) == MOST
    places.park(Call("git"), ASKED, "bob")
    places.park(Call("time"), ASKED, "alice")
    assert (places.count("git"), places.count("time"), places.count("none")) == (MOST + 1, 1, 0)
    places.take(states[0], ASKED, "alice", SERVER)
    places.park(Call("git"), ASKED, "alice")
    places.close()
    assert refused.expired == 0


async def test_a_state_of_one_server_is_none_of_another() -> None:
    places = Parking()
    state = places.park(Call(SERVER), ASKED, "alice")
    assert is_refused(places, state, server="time")
    assert not is_refused(places, state)


async def test_the_oldest_call_makes_room_when_all_children_are_held_but_not_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = Parking()
    calls = [Call(), Call(), Call("time")]
    for call in calls:
        places.park(call, ASKED, "alice")
    places.make_room(SERVER, 2)
    assert [call.expired for call in calls] == [0, 0, 0]  # its user may still be typing
    monkeypatch.setattr(parking, "LEAST_STAY", 0.0)
    places.make_room(SERVER, 3)
    assert [call.expired for call in calls] == [0, 0, 0]  # there is room
    places.make_room(SERVER, 2)
    assert [call.expired for call in calls] == [1, 0, 0]
    places.close()
