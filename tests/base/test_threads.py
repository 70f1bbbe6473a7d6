"""Work in a thread that ends with it."""

from __future__ import annotations

import threading
import warnings

import pytest

from bertolt.base import console
from bertolt.base.threads import ignored_warnings, in_a_thread_of_its_own
from tests.overlapping import overlapping


def test_the_thread_is_another_one_and_over() -> None:
    thread = in_a_thread_of_its_own(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_what_is_raised_there_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        in_a_thread_of_its_own(lambda: 1 / 0)


def test_what_is_told_there_has_the_words_that_hold_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.reworded(str.upper):
        in_a_thread_of_its_own(lambda: console.info("loud"))
    with console.hushed():
        in_a_thread_of_its_own(lambda: console.info("never"))
    assert capsys.readouterr().err == "LOUD\n"


def test_threads_that_ignore_warnings_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    with overlapping(ignored_warnings, ignored_warnings, stay=0.2) as inside_second:
        inside_second(lambda: warnings.warn("nobody sees this", stacklevel=1))
    assert warnings.filters == before
