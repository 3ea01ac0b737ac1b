"""Several requests at once: in order, and none begun after the first that failed."""

import threading

import pytest

from proc_decam_dagster.archive.threads import in_threads


def test_results_come_in_the_items_order():
    first, told = threading.Event(), []

    def task(item):
        if item == 0:
            assert first.wait(60)  # the others are done before it
        elif item == 3:
            first.set()
        return item**2

    assert in_threads(task, range(4), 2, told=lambda *a: told.append(a)) == [0, 1, 4, 9]
    assert told == [(1, 0), (2, 1), (3, 4), (4, 9)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_begins_after_a_failure_or_an_interrupt(error):
    stopped, begun = threading.Event(), []

    def task(item):
        begun.append(item)
        if item == 1:
            assert stopped.wait(60)  # under way: nothing but `stop` ends it
        if item == 0 and error is ValueError:
            raise error
        return item

    def told(*_):
        raise error

    with pytest.raises(error):
        in_threads(task, range(100), 2, told=told, stop=stopped.set)
    assert len(begun) < 100
