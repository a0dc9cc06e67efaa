"""What is seen, to take away: the figure, the Dataset, the picture, and the lines of Python that make the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis import plots
from analysis.attribution.directions import of_texts
from analysis.attribution.maps import attribution_maps
from analysis.explorer import segments
from analysis.explorer.answers import Controls, Visit, passes
from analysis.explorer.passes import Pass
from analysis.explorer.shelf import Shelf
from analysis.probes.attention import AFFINITIES, token_attention
from analysis.probes.collection import collect
from analysis.probes.images import Picture, pictures
from analysis.probes.label_maps import maps_of
from analysis.probes.pca import pca_maps
from analysis.probes.similarity import similarity_maps
from clearclip.datasets.base import Sample
from clearclip.errors import UserError
from clearclip.methods.recipes import recipe
from clearclip.models.backbone import Backbone
from clearclip.models.named import CHECKPOINTS
from clearclip.models.names import ALIASES
from clearclip.runs import results
from clearclip.segmentation import style
from clearclip.segmentation.result import side_by_side


@dataclass(frozen=True)
class Place:
    """Where in one model a visitor is looking."""

    shelf: Shelf
    visit: Visit
    controls: Controls
    seen: Pass
    second: Pass | None  # what the other model made of the picture
    file: Path  # the picture

    @property
    def photos(self) -> list[Picture]:
        """The picture that the model sees, from its file."""
        return pictures([self.file])

    @property
    def layer(self) -> int:
        """The layer that is shown of this model."""
        return min(self.controls.layer, self.seen.model.depth)

    @property
    def heads(self) -> list[int] | None:
        """The head that is shown, None for all."""
        return [min(self.controls.head, self.seen.model.heads)] if self.controls.head else None

    @property
    def side(self) -> int:
        """Pixels."""
        return self.seen.picture.height


class Made(NamedTuple):
    """A Dataset, its figure, and the Python that makes both.

    Args:
        dataset: what was measured.
        figure: its figure.
        code: lines that measure and draw with `model`, in which {figure} stands for the figure's file.
        imports: what they need beside `analysis` and `clearclip`.
    """

    dataset: xr.Dataset
    figure: Figure
    code: str
    imports: str = ""


def _similarity(place: Place) -> Made:
    model, at, layer, side = place.seen.model, place.visit.at, place.layer, place.side
    dataset = similarity_maps(model, place.photos, at, [layer], image_size=side)
    call = (
        f"similarity.similarity_maps(model, images.pictures({place.file.name!r}), {at}, [{layer}], image_size={side})"
    )
    return Made(
        dataset, plots.similarity(dataset), _drawn("similarity", call), "from analysis.probes import images, similarity"
    )


def _components(place: Place) -> Made:
    dataset = pca_maps(place.seen.model, place.photos, [place.layer], image_size=place.side)
    call = f"pca.pca_maps(model, images.pictures({place.file.name!r}), [{place.layer}], image_size={place.side})"
    return Made(dataset, plots.pca(dataset), _drawn("pca", call), "from analysis.probes import images, pca")


def _attention(place: Place) -> Made:
    model, layer, side, patch = place.seen.model, place.layer, place.side, place.seen.patch(place.visit.at)
    dataset = token_attention(model, place.photos, [layer], place.heads, AFFINITIES, patch, side)
    call = f"attention.token_attention(model, {place.file.name!r}, [{layer}], {place.heads}, {AFFINITIES}, {patch}, {side})"
    return Made(dataset, plots.attention(dataset), _drawn("attention", call), "from analysis.probes import attention")


def _entropy(place: Place) -> Made:
    dataset = collect(place.seen.model, place.photos, ["entropy"], image_size=place.side, progress=False)
    call = f'analysis.collect(model, {place.file.name!r}, ["entropy"], image_size={place.side})'
    return Made(dataset, plots.entropy(dataset), _drawn("entropy", call))


def _maximum(place: Place) -> Made:
    dataset = collect(place.seen.model, place.photos, ["maximum"], image_size=place.side, progress=False)
    call = f'analysis.collect(model, {place.file.name!r}, ["maximum"], image_size={place.side})'
    return Made(dataset, plots.maxima(dataset), _drawn("maxima", call))


def _attribution(place: Place) -> Made:
    question, model, name, side = place.controls.question, place.seen.model, place.controls.reasons, place.side
    which = recipe(name)
    guide = place.second.model if place.second is not None and which.needs_guide else None
    asked = of_texts(model, question.classes, question.prompts, place.shelf.texts)
    dataset = attribution_maps(model, place.photos, asked, which, guide, side)
    proxy = "" if guide is None else f", proxy=clearclip.load({loaded(guide)})"
    call = (
        f"analysis.attribute(model, {place.file.name!r}, {question.classes!r}, recipe={name!r}{proxy}, image_size={side}, "
        f"prompts={question.prompts!r})"
    )
    return Made(dataset, plots.attribution(dataset), _drawn("attribution", call))


def _labels(place: Place) -> Made:
    question = place.controls.question
    segmenter = segments.segmenter(place.shelf, place.seen, question, place.second)
    dataset = maps_of(segmenter, [Sample(place.seen.picture, np.zeros((0, 0), np.uint8), place.file.name)])
    figure = side_by_side(segmenter.each([place.seen.picture]))
    recipes = ", ".join(
        segments.written(each) if each.name == segments.OWN else repr(each.name) for each in segmenter.encoder.recipes
    )
    more = f", background=True, threshold={question.threshold}" if question.background else ""
    if segmenter.encoder.proxy is not None:
        more += f", proxy=clearclip.load({loaded(segmenter.encoder.proxy)})"
    code = (
        f"segmenter = clearclip.Segmenter(model, {question.classes!r}, [{recipes}]{more}, "
        f"windows=Windows.of_side({place.side}), prompts={question.prompts!r})\n"
        f"side_by_side(segmenter.each([{place.file.name!r}])).savefig({{figure}})"
    )
    imports = "from clearclip.methods.windows import Windows\nfrom clearclip.segmentation.result import side_by_side"
    return Made(dataset, figure, code, imports)


KINDS: dict[str, Callable[[Place], Made]] = {
    "similarity": _similarity,
    "principal components": _components,
    "attention": _attention,
    "entropy": _entropy,
    "maximum": _maximum,
    "label maps": _labels,
    "attribution": _attribution,
}
ASK = ("label maps", "attribution")  # kinds that need a text tower


@dataclass(frozen=True)
class Taken:
    """Files, and the lines of Python that make the same figure and Dataset from the picture among them."""

    files: list[Path]
    code: str


def take(shelf: Shelf, visit: Visit, controls: Controls, what: str, folder: Path) -> Taken:
    """Write what is seen of every chosen model into a folder.

    Args:
        what: one of `KINDS`.

    Raises:
        UserError: as the measurement does.
    """
    files, codes, seen = [], [], passes(shelf, visit, controls)
    for each in seen:
        if what in ASK and not each.model.has_text:
            continue
        stem = re.sub(r"\W+", "_", each.model.name)
        photo = folder / f"picture_{stem}.png"
        base = folder / f"{what.replace(' ', '_')}_{stem}.nc"
        each.picture.save(photo)
        second = next((other for other in seen if other is not each), None)
        with shelf.lock:
            dataset, figure, code, imports = KINDS[what](Place(shelf, visit, controls, each, second, photo))
            results.write(dataset, base)
            for suffix in (".pdf", ".png"):
                style.write(figure, base.with_suffix(suffix))
            plt.close(figure)
        files += [base.with_suffix(".pdf"), base.with_suffix(".png"), base, photo]
        drawn = code.replace("{figure}", repr(base.with_suffix(".pdf").name))
        codes.append(f"model = clearclip.load({loaded(each.model)})\n{drawn}\n")
    if not files:
        raise UserError(f"{what}: no model with a text tower is chosen.")
    head = "import analysis, clearclip\n" + (f"{imports}\n" if imports else "")
    return Taken(files, "\n".join([head, *codes]))


def _drawn(name: str, call: str) -> str:
    """The lines that measure, and draw with the figure of this name."""
    return f"dataset = {call}\nanalysis.plots.{name}(dataset).savefig({{figure}})"


def loaded(model: Backbone) -> str:
    """What `clearclip.load` is called with for this model, as Python.

    >>> import clearclip
    >>> loaded(clearclip.load("dino_tiny", device="cpu"))
    "'dino_tiny'"
    """
    name = repr(model.name if ALIASES.get(model.name) == model.architecture else model.architecture)
    if model.weights.random:
        return f"{name}, random=True"
    return f"{name}, {model.weights.name!r}" if model.weights.name.endswith(CHECKPOINTS) else name
