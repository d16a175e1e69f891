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
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, iterator, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, iterator, None)
            yield item
            del item
