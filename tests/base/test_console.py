"""Messages, counting, and Ctrl-C that waits."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from bertolt.base import console
from tests.overlapping import overlapping


def test_messages_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    console.info("很好")
    assert capsys.readouterr() == ("", "很好\n")


def test_counting_is_silent_for_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with console.counting("Tokenising", 100) as show:
        for done in range(100):
            show(done)
    assert capsys.readouterr() == ("", "")


def test_counting_in_a_log_is_plain_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.counting("Tokenising", 9000) as show:
        for done in (1000, 2000, 3000):
            show(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Tokenising: 2,000 of 9,000, 1 min 03 s left, 111/s"
    with console.counting("Answered", 9000) as show:
        show(1)
        show(1)  # of a batch that ends together: nothing is known of the others yet
    assert capsys.readouterr().err == "Answered: 1 of 9,000\n"
    with console.counting("Answered") as show:
        show(5)
        show(6)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Answered: 6, ")
    assert line.endswith("/s")


def test_counting_on_a_terminal_leaves_an_empty_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    clock = iter(range(100))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.counting("Evaluating", 10) as show:
        show(5)
    said = capsys.readouterr().err
    assert "\rEvaluating: 5 of 10" in said.replace("\x1b[K", "")
    assert said.endswith("\r\x1b[K")


def test_a_message_goes_above_the_line_at_the_foot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    line = console.StatusLine()
    line.show("half way")
    console.info("a message")
    line.end(keep=True)
    console.info("the next")
    said = capsys.readouterr().err
    assert said == "\r\x1b[Khalf way\r\x1b[Ka message\nhalf way\nthe next\n"


def test_a_line_at_the_foot_is_no_wider_than_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "11")
    line = console.StatusLine()
    for words in ("1234567890", "1234567890ab"):
        line.show(words, " [bar]")
        line.end()
        assert capsys.readouterr().err == "\r\x1b[K1234567890\r\x1b[K"
    line.show("1234", " [bar]")
    line.end()
    assert "1234 [bar]" in capsys.readouterr().err


def test_a_first_interrupt_waits_and_a_second_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    with console.held_interrupts() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_nothing_is_asked() -> None:
    with console.held_interrupts() as asked:
        pass
    assert not asked()


def test_beside_the_main_thread_nothing_changes() -> None:
    found: list[Any] = []

    def work() -> None:
        with console.held_interrupts() as asked:
            found.append((asked(), signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, before)]


def test_counting_without_a_total_tells_the_time_left_by_the_share(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.counting("Preparing", unit="tokens") as show:
        show(4000, 0.25)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "Preparing: 4,000 tokens, 2 min 00 s left, 100 tokens/s"


def test_control_characters_of_others_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.info("label \x1b[2J\rof\x9b31m two\n\tlines \u202e")
    assert capsys.readouterr().err == "label \\x1b[2J\\x0dof\\x9b31m two\n\tlines \\u202e\n"


def test_words_of_threads_that_overlap_are_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    with overlapping(
        lambda: console.reworded(lambda words: f"first {words}"),
        lambda: console.reworded(lambda words: f"second {words}"),
    ) as inside_second:
        console.info("message outside")
        inside_second(lambda: console.info("message inside"))
    console.info("message behind")
    said = capsys.readouterr().err.splitlines()
    assert said == ["message outside", "second message inside", "message behind"]


def test_silence_of_threads_that_overlap_is_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    with overlapping(console.hushed, console.hushed) as inside_second:
        console.info("outside")
        inside_second(lambda: console.info("inside"))
    console.info("behind")
    assert capsys.readouterr().err.splitlines() == ["outside", "behind"]


def test_prefixes_of_threads_that_overlap_are_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    line = console.StatusLine()
    with overlapping(
        lambda: console.status_prefix("run 1, "), lambda: console.status_prefix("run 2, ")
    ) as inside_second:
        line.show("outside")
        inside_second(lambda: line.show("inside"))
    line.show("behind")
    assert capsys.readouterr().err.splitlines() == ["outside", "run 2, inside", "behind"]


def test_a_process_that_gets_a_role_says_nothing_where_it_is_hushed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_role", console._Role())
    with console.hushed():
        console.set_output_role(silent=False, may_report_error=lambda: True)
        console.info("inside")
    console.set_output_role(silent=True, may_report_error=lambda: True)
    console.info("another process says it")
    assert capsys.readouterr().err == ""
