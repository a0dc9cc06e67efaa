"""Which prompt templates suit which class, from pictures without labels (FLOSS, arXiv 2504.10487)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.pixels import opened
from clearclip.segmentation.labelling import TEMPERATURE
from clearclip.segmentation.segmenter import Segmenter
from clearclip.segmentation.text import Queries, embed_each, templates

COUNT = 4  # templates of a class


@torch.inference_mode()
def choose_templates(segmenter: Segmenter, pictures: Any, count: int = COUNT) -> dict[str, list[str]]:
    """For each class the prompt templates with which predictions of it are surest.

    Every template alone labels the pictures with the segmenter's first recipe. Of each class those are taken whose softmax has
    the lowest mean entropy over the pixels that got the class; a template that never gives the class is not. What holds the
    templates' logits grows with templates × names × patches of a picture.

    Args:
        segmenter: with several templates, such as the 80 of "imagenet".
        pictures: what a `Segmenter` takes; a few dozen are enough, labels are not needed.
        count: how many templates of each class at most.

    Returns: templates by class, best first; a class that is never predicted has all of them.
    Raises: `UserError` for no picture, or recipes with stages that compare the names.

    >>> import clearclip, numpy
    >>> segmenter = Segmenter(clearclip.load("clip_tiny"), "sky, grass", prompts="simple")
    >>> best = choose_templates(segmenter, [numpy.zeros((32, 32, 3), numpy.uint8)], count=2)
    >>> sorted(best), min(map(len, best.values()))
    (['grass', 'sky'], 2)
    """
    patterns, classes, owner = templates(segmenter.prompts), segmenter.queries.classes, segmenter.queries.owner
    if count < 1:
        raise UserError(f"{count} templates: at least one for each class.")
    each = embed_each(segmenter.model, segmenter.names, patterns)  # (T, Q, E)
    asked = _asked(segmenter, each)
    recipe = segmenter.encoder.recipes[0].name
    entropy, pixels = torch.zeros(2, len(patterns), len(classes), dtype=torch.float64, device=owner.device)
    for picture in opened(pictures):
        logits = next(iter(asked.logits([picture])))[recipe]
        for i in range(len(patterns)):
            maps = logits.maps(slice(i * len(owner), (i + 1) * len(owner)))[None]
            scaled = F.interpolate(maps, size=(picture.height, picture.width), mode="bilinear")[0] * TEMPERATURE
            p = scaled.softmax(0)
            unsure = torch.special.entr(p).sum(0)  # (H, W)
            labels = owner[p.argmax(0)].flatten()
            entropy[i].index_add_(0, labels, unsure.flatten().double())
            pixels[i] += labels.bincount(minlength=len(classes))
    if not pixels.any():
        raise UserError("templates are chosen by looking at pictures, and there is none.")
    means = (entropy / pixels).nan_to_num(nan=torch.inf)  # (T, C)
    best: dict[str, list[str]] = {}
    for k, name in enumerate(classes):
        order = means[:, k].argsort(stable=True)[:count].tolist()
        best[name] = [patterns[i] for i in order if pixels[i, k]] or list(patterns)
    return best


def with_experts(segmenter: Segmenter, best: Mapping[str, Sequence[str]]) -> Segmenter:
    """The segmenter with an expert for each class, whose prompts are the class's own templates.

    Labels take about twice as many times longer as there are classes, for each expert scores all names at every pixel.

    Args:
        segmenter: it stays as it is.
        best: templates by class, as `choose_templates` gives them.

    Raises: `UserError` for a class without templates, or recipes with stages that compare the names.
    """
    missing = [name for name in segmenter.queries.classes if not best.get(name)]
    if missing:
        raise UserError(f"no templates for {', '.join(missing)}: each class needs some of its own.")
    patterns = templates(list(dict.fromkeys(pattern for each in best.values() for pattern in each)))
    each = embed_each(segmenter.model, segmenter.names, patterns)  # (T, Q, E)
    own = [each[[patterns.index(pattern) for pattern in best[name]]].mean(0) for name in segmenter.queries.classes]
    experts = F.normalize(torch.stack(own), dim=-1)  # (C, Q, E)
    asked = _asked(segmenter, torch.cat([segmenter.queries.embeddings[None], experts]))
    asked.experts, asked.queries = asked.queries, segmenter.queries
    asked.templates = {name: list(best[name]) for name in segmenter.queries.classes}
    return asked


def _asked(segmenter: Segmenter, embeddings: Tensor) -> Segmenter:
    """A copy that is asked for all names in several ways, (ways, Q, E)."""
    comparing = [
        recipe.name for recipe in segmenter.encoder.recipes if any(stage.needs_texts for stage in recipe.stages)
    ]
    if comparing:
        raise UserError(f"recipe {', '.join(comparing)}: its stages compare names, so they need one set of prompts.")
    queries = segmenter.queries
    asked = Queries(embeddings.flatten(0, 1), queries.owner.repeat(len(embeddings)), queries.classes)
    changed = copy.copy(segmenter)
    changed.queries = asked
    return changed
