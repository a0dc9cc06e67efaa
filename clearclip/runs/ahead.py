"""Reading ahead: threads decode the next pictures while the model works on the ones before."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # batches that are read before they are wanted
WORKERS = 4  # Pillow decodes and resizes without holding Python's lock


def ahead(read: Callable[[T], R], batches: Sequence[Sequence[T]]) -> Iterator[tuple[Sequence[T], list[R]]]:
    """Every batch with what `read` makes of its items, in order, the next batches already being read.

    >>> [results for _, results in ahead(lambda x: 2 * x, [[1, 2], [3]])]
    [[2, 4], [6]]
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="read") as pool:
        queue: deque[tuple[Sequence[T], list[Future[R]]]] = deque()
        try:
            for i in range(len(batches) + AHEAD):
                if i < len(batches):
                    queue.append((batches[i], [pool.submit(read, item) for item in batches[i]]))
                if i >= AHEAD:
                    batch, futures = queue.popleft()
                    yield batch, [future.result() for future in futures]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
