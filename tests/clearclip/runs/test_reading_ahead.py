"""Batches are read before they are wanted, unless one of them is large."""

import time

import pytest

from clearclip.runs import stream


@pytest.mark.parametrize(("size", "ahead"), [(1, stream.AHEAD), (stream.HELD, 0)])
def test_large_batches_are_not_read_ahead(size, ahead):
    begun = []

    def read(item):
        begun.append(item)
        return item

    batches = [[2 * i, 2 * i + 1] for i in range(6)]
    for i, (batch, results) in enumerate(stream.read_ahead(read, batches, held=lambda item: size)):
        assert results == batch == batches[i]
        wanted = sum(map(len, batches[: i + 1 + ahead]))
        end = time.monotonic() + 10
        while len(begun) < wanted and time.monotonic() < end:  # threads read meanwhile
            time.sleep(0.01)
        assert sorted(begun) == list(range(wanted))
