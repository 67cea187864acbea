"""Tasks that keep a process are bounded, whatever a server says of them."""

from __future__ import annotations

from bridge.children.exchange import Exchange
from bridge.protocol import tasks
from bridge.protocol.messages import Request, Response, response_line
from bridge.sessions.work import Work


def answered(work: Work, method: str, task: int, result: str) -> None:
    request = Request(b"7", method, b'{"taskId":"%d"}' % task)
    exchange = Exchange(request, work.answered)
    exchange.finish(response_line(Response(request.id, result.encode())))


def begun(work: Work, task: int, ttl: str = "null") -> None:
    answered(work, "tools/call", task, f'{{"task":{{"taskId":"{task}","status":"working","ttl":{ttl}}}}}')


def test_so_many_tasks_are_known_and_the_oldest_goes_for_one_more() -> None:
    work = Work()
    for task in range(tasks.MOST + 1):
        begun(work, task)
    for task in range(1, tasks.MOST + 1):
        assert work.goes_on()
        answered(work, "tasks/cancel", task, f'{{"taskId":"{task}","status":"cancelled"}}')
    assert not work.goes_on()


def test_a_time_that_makes_no_sense_keeps_nothing() -> None:
    for ttl in ("-1", "0", '"long"', "1e999", "{}"):
        work = Work()
        begun(work, 1, ttl)
        assert not work.goes_on()
