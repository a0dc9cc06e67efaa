from .base import Facts, LabelledPictures, Sample
from .benchmark import Benchmark
from .folder import FolderDataset
from .registry import BENCHMARKS, DRAWN, facts, known, load, parse
from .resolve import as_dataset, is_dataset

__all__ = [
    "BENCHMARKS",
    "DRAWN",
    "Benchmark",
    "Facts",
    "FolderDataset",
    "LabelledPictures",
    "Sample",
    "as_dataset",
    "facts",
    "is_dataset",
    "known",
    "load",
    "parse",
]
