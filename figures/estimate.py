"""How long a plan may take on this machine: a few pictures through each model, times what the runs are known to cost."""

import time
from functools import cached_property
from typing import TYPE_CHECKING

from figures.catalogue import Choice, Run, readers

if TYPE_CHECKING:
    from clearclip.datasets.base import LabelledPictures
    from clearclip.models.backbone import Backbone

A_RECIPE = 0.04  # what each further recipe adds to the cost of one, see benchmarks/recipes.py
WARM, TIMED = 1, 2  # pictures that are run before, and while, the clock runs


def words(seconds: float) -> str:
    """A duration as a person says it.

    >>> words(4.2), words(90), words(7300)
    ('4 s', '2 min', '2.0 h')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


class Estimate:
    """Seconds a run of a choice takes, from pictures that are timed once for each model and data set."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self._segmented: dict[tuple[str, str], float] = {}
        self._passes: dict[str, float] = {}

    @cached_property
    def models(self) -> "dict[str, Backbone]":
        """All models, loaded."""
        from clearclip.models.load import loaders

        one = self.choice
        every = loaders(one.everyone, one.checkpoint, one.random, one.device, one.precision)
        return {name: load() for name, load in zip(one.everyone, every, strict=True)}

    @cached_property
    def datasets(self) -> "dict[str, LabelledPictures]":
        """All data sets, by how they were named."""
        from clearclip.datasets import parse

        return {text: parse(text) for text in self.choice.dataset}

    def of(self, run: Run) -> tuple[int, float]:
        """How many images a run reads for each model, and about how many seconds it takes."""
        if not run.labels:
            count = self._pictures(run)
            return count, sum(count * run.cost * self._one_pass(name) for name in self.choice.everyone)
        spec = run.arguments(self.choice)
        sets = [text for text in self.choice.dataset if text in spec]
        names = [
            name for name in self.choice.everyone if name in spec and (not run.text or name in readers(self.choice))
        ]
        limit = int(spec[spec.index("--limit") + 1]) if "--limit" in spec else None
        counts = {text: min(len(self.datasets[text]), limit or len(self.datasets[text])) for text in sets}
        cost = 1 + A_RECIPE * (run.recipes - 1)
        if not run.text:
            return sum(counts.values()), sum(run.cost * sum(counts.values()) * self._one_pass(name) for name in names)
        seconds = sum(counts[text] * cost * self._segment(name, text) for name in names for text in sets)
        return sum(counts.values()), seconds

    def _pictures(self, run: Run) -> int:
        """How many pictures a run without labels reads."""
        from analysis.probes.images import pictures

        spec = run.arguments(self.choice)
        start = spec.index("--images") + 1
        stop = next((i for i in range(start, len(spec)) if spec[i].startswith("--")), len(spec))
        limit = int(spec[spec.index("--limit") + 1]) if "--limit" in spec else None
        return len(pictures(spec[start:stop], limit))

    def _one_pass(self, name: str) -> float:
        """Seconds of one picture through a model at its own size."""
        import torch

        if name not in self._passes:
            model = self.models[name]
            images = torch.zeros(TIMED, 3, model.image_size, model.image_size, device=model.device)
            with torch.inference_mode():
                for timed in (False, True):
                    began = time.perf_counter()
                    model(images)
                    if timed:
                        self._passes[name] = (time.perf_counter() - began) / TIMED
        return self._passes[name]

    def _segment(self, name: str, text: str) -> float:
        """Seconds of one picture of a data set with one recipe, windows and resizing included."""
        from clearclip.segmentation.segmenter import Segmenter

        if (name, text) not in self._segmented:
            dataset = self.datasets[text]
            segmenter = Segmenter(self.models[name], dataset.classes, "clip", prompts="photo")
            for i in range(WARM + TIMED):
                if i == WARM:
                    began = time.perf_counter()
                segmenter.each(dataset[i % len(dataset)].image)
            self._segmented[name, text] = (time.perf_counter() - began) / TIMED
        return self._segmented[name, text]
