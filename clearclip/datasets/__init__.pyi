from .base import Facts, LabelledPictures, Sample
from .benchmark import Benchmark
from .folder import FolderDataset
from .registry import BENCHMARKS, DRAWN, facts, known, load, parse

__all__ = [
    "BENCHMARKS",
    "DRAWN",
    "Benchmark",
    "Facts",
    "FolderDataset",
    "LabelledPictures",
    "Sample",
    "facts",
    "known",
    "load",
    "parse",
]
