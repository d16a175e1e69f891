"""The next item is made while the last one is used; an error ends it and waits for nobody."""

import threading

import pytest

from qwen_audio_jax.conversion.prefetch import prefetch


def test_items_come_in_order_and_the_next_one_is_made_meanwhile():
    made = []

    def items():
        for number in range(4):
            made.append(number)
            yield number

    found = []
    for number in prefetch(items()):
        found.append(number)
        deadline = threading.Event()
        while len(made) < min(number + 2, 4) and not deadline.wait(0.001):
            pass
    assert found == made == [0, 1, 2, 3]


def test_what_making_one_raises_is_raised():
    def items():
        yield 1
        raise ValueError("damaged")

    made = prefetch(items())
    assert next(made) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(made)


def test_one_that_is_left_half_way_is_closed_without_waiting():
    """A garbage collector closes it in any thread: where that waits, one starting is stuck."""
    going_on = threading.Event()

    def items():
        yield 1
        going_on.wait()
        yield 2

    made = prefetch(items())
    assert next(made) == 1
    closed = threading.Thread(target=made.close)
    closed.start()
    closed.join(10)
    stuck = closed.is_alive()
    going_on.set()
    closed.join()
    assert not stuck
