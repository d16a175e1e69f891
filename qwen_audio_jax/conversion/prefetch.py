"""Work on the next item while the last one is used, so that reading and writing overlap."""

import concurrent.futures
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The items, of which none is None; each is made in a thread while its predecessor is used.

    So two of them are in memory at a time. What making one raises is raised here.
    """
    iterator = iter(items)
    executor = concurrent.futures.ThreadPoolExecutor(1)
    try:
        following = executor.submit(next, iterator, None)
        while (item := following.result()) is not None:
            following = executor.submit(next, iterator, None)
            yield item
            del item
    finally:
        # Where an error ends it half way, the garbage collector may close it, within any thread
        # and even while that one starts: to wait for another thread there would be for ever.
        executor.shutdown(wait=False)
