"""A database that is away for a moment is waited for; one that will not come back is not."""

import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from proc_decam_dagster.execution.patience import is_away, patiently


def trouble(text):
    return OperationalError("SELECT 1", {}, sqlite3.OperationalError(text))


def test_it_is_asked_again_until_it_answers():
    answers = [trouble("server closed the connection"), trouble("the database system is starting up"), "rows"]
    repeats = []

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(ask, before_repeat=lambda: repeats.append(1)) == "rows" and len(repeats) == 2


def test_patience_ends():
    with pytest.raises(OperationalError):
        patiently(lambda: (_ for _ in ()).throw(trouble("connection refused")), seconds=0.5)


@pytest.mark.parametrize(
    "text", ["attempt to write a readonly database", "database or disk is full", "no such table: x"]
)
def test_waiting_does_not_help_everything(text):
    assert not is_away(trouble(text)) and not is_away(ValueError())
    assert is_away(trouble("database is locked"))
