"""Logs as an operator finds them: on the console and in real files."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from bridge.observe import audit, writer
from bridge.observe.logs import MOST_OPEN, STDERR_SHOWN, Logs
from bridge.observe.writer import QUEUE_RECORDS

log = logging.getLogger("bridge.test")

LINE = re.compile(r"(?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) \[(?P<level>[A-Z]+)\] (?P<message>.*)")
#: Seconds to wait for the thread that writes before a test fails.
PATIENCE = 10.0


def messages(text: str) -> list[str]:
    """The messages of a log in text layout, each on one line of that layout."""
    found = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [match["message"] for match in found if match]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _loggers_are_left_as_they_were() -> Iterator[None]:
    names = (None, "bridge", "bridge.child_stderr")
    before = [logging.getLogger(name).level for name in names]
    handlers = list(logging.getLogger().handlers)
    about = vars(logging).copy()
    yield
    assert vars(logging) == about
    assert [logging.getLogger(name).level for name in names] == before
    assert logging.getLogger().handlers == handlers


def test_a_line_is_stamp_in_utc_level_and_message(tmp_path: Path) -> None:
    console = io.StringIO()
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with Logs("INFO", tmp_path, "text", console):
        log.info("Session created session_id=%s total_sessions=%d", "550e8400...", 1)
    after = datetime.now(UTC)
    match = LINE.fullmatch(console.getvalue().removesuffix("\n"))
    assert match
    assert (match["level"], match["message"]) == ("INFO", "Session created session_id=550e8400... total_sessions=1")
    assert before <= datetime.fromisoformat(match["stamp"]) <= after


def test_the_console_and_bridge_log_hold_the_same_in_order(tmp_path: Path) -> None:
    console = io.StringIO()
    with Logs("INFO", tmp_path, "text", console):
        for number in range(500):
            log.info("line %d", number)
    assert messages(read(tmp_path / "bridge.log")) == [f"line {number}" for number in range(500)]
    assert read(tmp_path / "bridge.log") == console.getvalue()


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("ERROR", ["error"]),
    ],
)
def test_the_log_begins_at_the_level_that_was_set(tmp_path: Path, level: str, shown: list[str]) -> None:
    with Logs(level, tmp_path, "text", io.StringIO()):
        log.debug("debug")
        log.info("info")
        log.warning("warning")
        log.error("error")
    assert messages(read(tmp_path / "bridge.log")) == shown


def test_error_log_holds_errors_only(tmp_path: Path) -> None:
    with Logs("DEBUG", tmp_path, "text", io.StringIO()):
        log.debug("debug")
        log.warning("warning")
        log.error("error")
        log.critical("critical")
    assert messages(read(tmp_path / "error.log")) == ["error", "critical"]


def test_other_libraries_are_heard_from_warning_on_even_at_debug(tmp_path: Path) -> None:
    console = io.StringIO()
    with Logs("DEBUG", tmp_path, "text", console):
        logging.getLogger("some.library").info("chatter")
        logging.getLogger("some.library").warning("trouble")
    assert messages(console.getvalue()) == messages(read(tmp_path / "bridge.log")) == ["trouble"]


def test_the_log_goes_on_where_the_last_run_ended(tmp_path: Path) -> None:
    for run in ("first", "second"):
        with Logs("INFO", tmp_path, "text", io.StringIO()):
            log.info("%s run", run)
    assert messages(read(tmp_path / "bridge.log")) == ["first run", "second run"]


def test_nothing_is_logged_after_the_end(tmp_path: Path) -> None:
    console = io.StringIO()
    with Logs("INFO", tmp_path, "text", console):
        log.info("inside")
    log.error("outside")
    assert messages(console.getvalue()) == ["inside"]


def test_an_exception_is_written_with_its_traceback(tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "text", io.StringIO()):
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("server git failed")
    head, *traceback = read(tmp_path / "error.log").splitlines()
    assert messages(head) == ["server git failed"]
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ValueError: why"


# What children say


def test_each_server_has_a_file_of_what_its_children_write_to_stderr(tmp_path: Path) -> None:
    console = io.StringIO()
    with Logs("INFO", tmp_path, "text", console) as logs:
        git, time = logs.stderr_sink("git"), logs.stderr_sink("time")
        git(b"Listening")
        time(b"Tick")
        git(b"ERROR %s 100%")  # a child's percent signs are text
        logs.stderr_sink("git")(b"second child")
        log.info("ours")
    assert messages(read(tmp_path / "servers" / "git.log")) == ["Listening", "ERROR %s 100%", "second child"]
    assert messages(read(tmp_path / "servers" / "time.log")) == ["Tick"]
    assert sorted(path.name for path in (tmp_path / "servers").iterdir()) == ["git.log", "time.log"]
    for text in (console.getvalue(), read(tmp_path / "bridge.log")):
        assert messages(text) == ["ours"]
    assert read(tmp_path / "error.log") == ""


def test_a_childs_words_are_kept_whatever_our_level_is(tmp_path: Path) -> None:
    with Logs("ERROR", tmp_path, "text", io.StringIO()) as logs:
        logs.stderr_sink("git")(b"Listening")
    assert messages(read(tmp_path / "servers" / "git.log")) == ["Listening"]


def test_a_server_that_says_nothing_has_no_file(tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "text", io.StringIO()) as logs:
        logs.stderr_sink("git")
    assert list((tmp_path / "servers").iterdir()) == []


def test_a_childs_line_is_text_whatever_its_bytes_are(tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "text", io.StringIO()) as logs:
        logs.stderr_sink("git")("é \N{SNOWMAN}".encode() + b" \xff")
        logs.stderr_sink("git")(b"x" * (STDERR_SHOWN + 1))
    assert messages(read(tmp_path / "servers" / "git.log")) == ["é \N{SNOWMAN} \N{REPLACEMENT CHARACTER}", "x" * 8192]


# What must not reach a terminal


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[2J\x1b[31m", r"\x1b[2J\x1b[31m"),
        ("progress 10%\rprogress 20%", r"progress 10%\x0dprogress 20%"),
        ("\x00\x07\x08\x0b\x0c\x1f\x7f", r"\x00\x07\x08\x0b\x0c\x1f\x7f"),
        ("\x85\x9b2J", r"\x85\x9b2J"),
        ("tab\there é ☃", "tab\there é ☃"),
    ],
)
def test_control_characters_are_escaped_in_every_file(tmp_path: Path, raw: str, shown: str) -> None:
    console = io.StringIO()
    with Logs("INFO", tmp_path, "text", console) as logs:
        log.error("a client sent %s", raw)
        logs.stderr_sink("git")(raw.encode())
    for text in (console.getvalue(), read(tmp_path / "bridge.log"), read(tmp_path / "error.log")):
        assert messages(text) == [f"a client sent {shown}"]
    assert messages(read(tmp_path / "servers" / "git.log")) == [shown]


def test_a_message_cannot_forge_a_line(tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "text", io.StringIO()):
        log.info("a client sent %s", "x\n2026-11-21T10:00:00.123Z [INFO] forged")
    assert len(messages(read(tmp_path / "bridge.log"))) == 1


def test_a_traceback_has_lines_but_no_control_characters(tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "text", io.StringIO()):
        try:
            raise ValueError("a client sent \x1b[2J\x9b2J\r")
        except ValueError:
            log.exception("failed")
    lines = read(tmp_path / "error.log").split("\n")
    assert len(lines) > 3
    assert lines[-2] == r"ValueError: a client sent \x1b[2J\x9b2J\x0d"
    assert all(line.isprintable() for line in lines)


def test_a_lone_surrogate_does_not_stop_the_log(tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "text", io.StringIO()):
        log.info("before \udc80")
        log.info("after")
    assert messages(read(tmp_path / "bridge.log")) == [r"before \udc80", "after"]


# As JSON


def test_the_json_layout_is_one_object_a_line(tmp_path: Path) -> None:
    console = io.StringIO()
    with Logs("INFO", tmp_path, "json", console) as logs:
        log.info("two\nlines \x1b \N{SNOWMAN} %d", 5)
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("failed")
        logs.stderr_sink("git")(b'{"a": "b"}')
    assert console.getvalue() == read(tmp_path / "bridge.log")
    assert "\x1b" not in console.getvalue()
    info, error = (json.loads(line) for line in console.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", info.pop("time"))
    assert info == {"level": "INFO", "logger": "bridge.test", "message": "two\nlines \x1b \N{SNOWMAN} 5"}
    assert (error["level"], error["message"]) == ("ERROR", "failed")
    assert error["exception"].endswith("ValueError: why")
    assert [json.loads(line)["message"] for line in read(tmp_path / "error.log").splitlines()] == ["failed"]
    [child] = read(tmp_path / "servers" / "git.log").splitlines()
    assert json.loads(child)["message"] == '{"a": "b"}'


def test_the_json_layout_escapes_every_control_character(tmp_path: Path) -> None:
    with Logs("INFO", tmp_path, "json", io.StringIO()):
        log.info("\x7f \x9b2J")
    line = read(tmp_path / "bridge.log")
    assert line.removesuffix("\n").isprintable()
    assert json.loads(line)["message"] == "\x7f \x9b2J"


# When the disk does not want


class SlowConsole(io.StringIO):
    """A terminal that takes nothing until it is let go, and tells when it has seen a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.saw_text = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.let_go.wait(PATIENCE)
        written = super().write(text)
        if self._text in text:
            self.saw_text.set()
        return written


class HeardConsole(io.StringIO):
    """A terminal that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def write(self, text: str) -> int:
        with self._written:
            self._written.notify_all()
            return super().write(text)

    def wait_for(self, text: str) -> None:
        with self._written:
            assert self._written.wait_for(lambda: text in self.getvalue(), PATIENCE), self.getvalue()


def test_a_directory_that_cannot_be_made_costs_one_warning_and_the_files(tmp_path: Path) -> None:
    # Below a regular file, because root may write everywhere else.
    (tmp_path / "file").write_text("")
    console = io.StringIO()
    with Logs("INFO", tmp_path / "file" / "logs", "text", console) as logs:
        log.info("one")
        logs.stderr_sink("git")(b"from a child")
        log.info("two")
    warning, *rest = messages(console.getvalue())
    assert warning == (
        f"LOG_DIR: {tmp_path / 'file' / 'logs'} cannot be written: Not a directory; logging to the console only"
    )
    assert rest == ["one", "two"]
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_childs_file_that_cannot_be_opened_costs_one_warning_and_its_lines(tmp_path: Path) -> None:
    (tmp_path / "servers" / "git.log").mkdir(parents=True)
    console = SlowConsole("git.log cannot be written")
    console.let_go.set()
    with Logs("INFO", tmp_path, "text", console) as logs:
        for _ in range(3):
            logs.stderr_sink("git")(b"from a child")
        assert console.saw_text.wait(PATIENCE)
        logs.stderr_sink("time")(b"Tick")
        log.info("after")
    assert messages(console.getvalue()) == [
        f"{tmp_path / 'servers' / 'git.log'} cannot be written: Is a directory; its lines are lost until it can",
        "after",
    ]
    assert messages(read(tmp_path / "servers" / "time.log")) == ["Tick"]


@pytest.mark.parametrize("node", [None, "a"])
def test_a_full_disk_costs_one_warning_and_is_over_when_there_is_room(
    tmp_path: Path, node: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "servers" / "git.log"
    file.parent.mkdir()
    file.symlink_to("/dev/full")
    console = HeardConsole()
    with Logs("INFO", tmp_path, "text", console, node=node) as logs:
        sink = logs.stderr_sink("git")
        for number in range(3):
            sink(b"lost %d" % number)
        console.wait_for("lost until it can")
        log.info("all three")  # are behind us when this is there
        console.wait_for("all three")
        file.unlink()
        sink(b"kept")
        console.wait_for("is written again")
    assert [re.sub("^a ", "", each) for each in messages(console.getvalue())] == [
        f"{file} cannot be written: No space left on device; its lines are lost until it can",
        "all three",
        f"{file} is written again; 3 line(s) of it were lost",
    ]
    assert re.sub("] a ", "] ", read(file)).endswith(" [INFO] kept\n")
    assert read(file).count("\n") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_could_not_be_opened_at_first_is_opened_when_it_can_be(tmp_path: Path) -> None:
    file = tmp_path / "servers" / "git.log"
    file.mkdir(parents=True)
    console = HeardConsole()
    with Logs("INFO", tmp_path, "text", console) as logs:
        logs.stderr_sink("git")(b"lost")
        console.wait_for("lost until it can")
        file.rmdir()
        logs.stderr_sink("git")(b"kept")
        console.wait_for("git.log is written again; 1 line(s) of it were lost")
    assert messages(read(file)) == ["kept"]


def test_servers_that_come_and_go_leave_no_open_files(tmp_path: Path) -> None:
    lost = tmp_path / "servers" / "lost.log"
    lost.parent.mkdir()
    lost.symlink_to("/dev/full")
    names = [f"s{number}" for number in range(2 * MOST_OPEN)]
    console = HeardConsole()
    with Logs("INFO", tmp_path, "text", console) as logs:
        for turn in ("first", "second"):
            for name in ("lost", *names):
                logs.stderr_sink(name)(turn.encode())
            log.info("%s turn", turn)
            console.wait_for(f"{turn} turn")
        log.error("this goes to a file that was closed meanwhile")
        lost.unlink()
        logs.stderr_sink("lost")(b"kept")
        console.wait_for("is written again; 2 line(s)")
        opened = [each.path for each in psutil.Process().open_files() if each.path.startswith(str(tmp_path))]
        assert len(opened) <= MOST_OPEN
    assert console.getvalue().count("cannot be written") == 1
    for name in names:
        assert messages(read(tmp_path / "servers" / f"{name}.log")) == ["first", "second"]
    assert messages(read(tmp_path / "error.log")) == ["this goes to a file that was closed meanwhile"]


def test_a_folder_that_somebody_removes_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "logs"
    console = HeardConsole()
    with Logs("INFO", folder, "text", console, audits=True) as logs:
        logs.stderr_sink("git")(b"before")
        log.error("before")
        console.wait_for("before")
        (tmp_path / "var").rename(tmp_path / "gone")  # in one step: the thread may be at it
        logs.stderr_sink("git")(b"behind")
        logs.stderr_sink("time")(b"behind")
        log.error("behind")
        audit.record("spawn")
    for name in ("bridge", "error", "servers/git", "servers/time"):
        assert messages(read(folder / f"{name}.log"))[-1] == "behind"
    assert json.loads(read(folder / "audit.log"))["event"] == "spawn"
    assert messages(console.getvalue()) == ["before", "behind"]


def test_one_file_that_cannot_be_opened_costs_all_files_and_leaves_none_open(tmp_path: Path) -> None:
    (tmp_path / "error.log").mkdir()
    console = io.StringIO()
    with Logs("INFO", tmp_path, "text", console):
        log.info("one")
    warning, *rest = messages(console.getvalue())
    assert warning == f"LOG_DIR: {tmp_path} cannot be written: Is a directory; logging to the console only"
    assert rest == ["one"]


def test_a_full_queue_loses_lines_and_counts_them_and_nobody_waits(tmp_path: Path) -> None:
    console = SlowConsole("7 log lines were lost")
    with Logs("INFO", tmp_path, "text", console):
        log.info("the line that the thread is stuck with")
        assert console.reached.wait(PATIENCE)
        for number in range(QUEUE_RECORDS + 7):
            log.info("line %d;", number)  # returns, though nobody writes
        console.let_go.set()
        assert console.saw_text.wait(PATIENCE), "it is told while the bridge runs"
        log.info("the last line")
    *found, told, last = messages(console.getvalue())
    assert found[1:] == [f"line {number};" for number in range(QUEUE_RECORDS)]
    assert (told, last) == ("7 log lines were lost: the disk was too slow", "the last line")
    assert messages(read(tmp_path / "bridge.log"))[-2:] == [told, last]


def test_lines_wait_for_each_other_and_an_error_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSE", 1000.0)
    written: list[list[object]] = []
    is_written = threading.Semaphore(0)

    def write(records: Sequence[logging.LogRecord]) -> None:
        written.append([record.msg for record in records])
        if "error" in written[-1]:
            is_written.release()

    made = writer.Writer(write)
    for _ in range(2):
        written.clear()
        for number in range(1000):
            made.handle(logging.LogRecord("", logging.INFO, "", 0, str(number), (), None))
        made.handle(logging.LogRecord("", logging.ERROR, "", 0, "error", (), None))
        assert is_written.acquire(timeout=PATIENCE)
        assert [text for texts in written for text in texts] == [*map(str, range(1000)), "error"]
        assert max(map(len, written)) == writer.AT_ONCE
        assert len(written) <= 1001 // writer.AT_ONCE + 2
    made.stop()


def test_what_comes_too_late_does_not_keep_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "AT_ONCE", 1)
    begun, go_on = threading.Event(), threading.Event()

    def write(_: Sequence[logging.LogRecord]) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    made = writer.Writer(write)
    made.handle(logging.makeLogRecord({"levelno": logging.ERROR}))
    assert begun.wait(PATIENCE)
    stopping = threading.Thread(target=made.stop)
    stopping.start()
    while made._waiting.empty():
        pass
    made.handle(logging.makeLogRecord({"levelno": logging.INFO}))
    go_on.set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


def test_a_mistake_of_ours_costs_its_lines_only(capsys: pytest.CaptureFixture[str]) -> None:
    written: list[object] = []
    done = threading.Event()

    def write(records: Sequence[logging.LogRecord]) -> None:
        if records and records[0].msg == "bad":
            done.set()
            raise RuntimeError("no")
        written.extend(record.msg for record in records)

    made = writer.Writer(write)
    made.handle(logging.LogRecord("", logging.ERROR, "", 0, "bad", (), None))
    assert done.wait(PATIENCE)
    made.handle(logging.LogRecord("", logging.ERROR, "", 0, "good", (), None))
    made.stop()
    assert written == ["good"]
    assert capsys.readouterr().err == "1 log lines were lost: RuntimeError('no')\n"


def test_a_console_that_knows_few_letters_gets_every_line(tmp_path: Path) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with Logs("INFO", tmp_path, "text", console):
        for text in ("one", "zwölf", "three"):
            log.info("%s", text)
    assert messages(console.buffer.getvalue().decode()) == ["one", r"zw\xf6lf", "three"]  # type: ignore[attr-defined]


def test_what_is_written_now_is_read_soon(tmp_path: Path) -> None:
    console = HeardConsole()
    with Logs("INFO", tmp_path, "text", console):
        for text in ("one", "two"):
            log.info("%s", text)
            console.wait_for(text)


def test_a_terminal_that_has_gone_costs_no_file_its_lines(tmp_path: Path) -> None:
    console = io.StringIO()
    console.close()
    with Logs("INFO", tmp_path, "text", console):
        log.info("one")
    assert messages(read(tmp_path / "bridge.log")) == ["one"]


def test_a_call_that_cannot_be_formatted_is_told_of_and_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Logs("INFO", tmp_path, "text", io.StringIO()):
        log.info("one")
        [entrance] = [each for each in logging.getLogger().handlers if isinstance(each, writer.Writer)]
        entrance.handle(logging.LogRecord("bridge.test", logging.INFO, "", 0, "%d", ("no number",), None))
        log.info("two")
    assert messages(read(tmp_path / "bridge.log")) == ["one", "two"]
    assert "Logging error" in capsys.readouterr().err


def test_no_lost_lines_are_no_news(tmp_path: Path) -> None:
    console = io.StringIO()
    with Logs("INFO", tmp_path, "text", console):
        log.info("one")
    assert "lost" not in console.getvalue()


def test_a_queue_that_is_full_at_the_end_holds_nothing_up_for_ever(tmp_path: Path) -> None:
    console = SlowConsole("unused")
    with Logs("INFO", tmp_path, "text", console):
        log.info("stuck")
        assert console.reached.wait(PATIENCE)
        for _ in range(QUEUE_RECORDS + 10):
            log.info("line")
        threading.Timer(0.1, console.let_go.set).start()
    assert "10 log lines were lost" in console.getvalue()
