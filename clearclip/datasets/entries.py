"""The pictures of a data set as a list of entries, and the digest of what is in them."""

from __future__ import annotations

import hashlib
from functools import partial

from clearclip.datasets.base import LabelledPictures, Sample
from clearclip.datasets.files import LabelledFiles
from clearclip.entries import Entry
from clearclip.entries import digest_now as digest_of_pictures
from clearclip.entries import list_digest as digest_of_list


def entries(dataset: LabelledPictures, limit: int | None = None) -> list[Entry[Sample]]:
    """The pictures of a data set with their labels, none of them read yet.

    Args:
        dataset: any data set.
        limit: only the first so many.

    >>> from clearclip.datasets import load
    >>> [entry.name for entry in entries(load("scenes", count=3), limit=2)]
    ['scenes 0', 'scenes 1']
    """
    indices = range(len(dataset) if limit is None else min(limit, len(dataset)))
    reads = [partial(dataset.__getitem__, index) for index in indices]
    if isinstance(dataset, LabelledFiles):
        files = zip(reads, dataset.pairs, strict=False)
        return [Entry(pair.name, read, dataset.name, (pair.image, pair.label)) for read, pair in files]
    promise = dataset.identity and hashlib.sha256(dataset.identity.encode()).hexdigest()
    named = zip(reads, indices, strict=True)
    return [Entry(f"{dataset.name} {index}", read, dataset.name, promise=promise) for read, index in named]


def meaning(dataset: LabelledPictures) -> str:
    """What a digest of a data set is about besides its pictures: its classes, and what its labels mean."""
    return "\n".join([dataset.identity, *dataset.classes])


def list_digest(dataset: LabelledPictures) -> str:
    """Which pictures a data set has, before any of them is read: a run is continued only with the same list."""
    return digest_of_list(entries(dataset), meaning(dataset))


def digest_now(dataset: LabelledPictures, limit: int | None = None) -> str:
    """What `data_sha256` of a result is, for the first pictures of a data set as they are now."""
    return digest_of_pictures(entries(dataset, limit), meaning(dataset))
