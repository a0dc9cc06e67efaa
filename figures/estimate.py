"""How long a plan may take on this machine: a few pictures through each model, times what the runs are known to cost."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

import torch

from analysis.commands import listed
from clearclip import cli
from clearclip.datasets import LabelledPictures, parse
from clearclip.models.backbone import Backbone
from clearclip.models.named import all_named
from clearclip.segmentation.segmenter import Segmenter
from figures.runs import Choice, Run

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
    """Seconds that a run of a choice takes, from pictures that are timed once for each model and data set."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self._segmented: dict[tuple[str, str], float] = {}
        self._passes: dict[str, float] = {}

    @cached_property
    def models(self) -> dict[str, Backbone]:
        """All models, loaded, by their labels."""
        choice = self.choice
        models = [load() for load in cli.loaders(choice.models(choice.everyone), choice.running)]
        return {model.name: model for model in models}

    @cached_property
    def datasets(self) -> dict[str, LabelledPictures]:
        """All data sets, by how they were named."""
        return {text: parse(text) for text in self.choice.dataset}

    def of(self, run: Run, options: Any) -> tuple[int, float]:
        """How many images a run reads for each model, and about how many seconds it takes."""
        names = [model.label for model in all_named(options.models.model, options.models.checkpoint)]
        if not run.labels:
            count = len(listed(options.models, options.pictures, options.running))
            return count, sum(count * run.cost * self._one_pass(name) for name in names)
        limit = options.running.limit
        counts = {text: len(self.datasets[text]) for text in options.labelled.dataset}
        counts = {text: count if limit is None else min(count, limit) for text, count in counts.items()}
        images = sum(counts.values())
        if not run.text:
            return images, sum(run.cost * images * self._one_pass(name) for name in names)
        seconds = 0.0
        for name in names:
            cost = 1 + A_RECIPE * (len(run.recipes(self.models[name])) - 1)
            seconds += sum(count * cost * self._segment(name, text) for text, count in counts.items())
        return images, seconds

    def _one_pass(self, name: str) -> float:
        """Seconds of one picture through a model at its own size."""
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
        if (name, text) not in self._segmented:
            dataset = self.datasets[text]
            segmenter = Segmenter(self.models[name], dataset.classes, "clip", prompts="photo")
            for i in range(WARM + TIMED):
                if i == WARM:
                    began = time.perf_counter()
                segmenter.each(dataset[i % len(dataset)].image)
            self._segmented[name, text] = (time.perf_counter() - began) / TIMED
        return self._segmented[name, text]
