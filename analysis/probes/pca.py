"""Principal components of patch features, joint over pictures, in X_res, X_attn and X_sum of chosen layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from analysis.probes.collection import describe_model
from analysis.probes.components import Components, Moments
from analysis.probes.images import Picture
from analysis.probes.photos import photo, thumbnail
from analysis.probes.probe import Probe
from analysis.probes.table import with_origin
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES
from clearclip.models.finite import feature_sites, require_finite
from clearclip.models.memory import refuse_too_large

Site = tuple[int, str]
Choice = Callable[[Site, np.ndarray], np.ndarray]  # which of a picture's patches (patches, D) count, (patches,) bool


def pca_maps(
    model: Backbone,
    pictures: Sequence[Picture],
    layers: Sequence[int] | None = None,
    features: Sequence[str] = FEATURES,
    components: int = 3,
    foreground: bool = False,
    image_size: int | None = None,
    batch_size: int = 8,
) -> xr.Dataset:
    """Principal components of the patches of all pictures together, in every feature map that is named.

    The pictures go through the model once for the covariance and once for the scores, and with a foreground once more.
    Memory holds the scores, the maps of one batch, and a D × D matrix in float64 (4.7 MB at D = 768) for each layer and
    feature, however many pictures there are.

    Args:
        layers: counted from 1; None for the last.
        features: of X_res, X_attn and X_sum.
        components: how many, largest variance first.
        foreground: the components of the foreground only, as in DINOv2's Fig. 1. A first component parts the patches at
            their mean, and the foreground is the side on which the pictures' outermost patches do not lie on average.
        image_size: side in pixels; None for the weights' own.
        batch_size: pictures in one forward pass.

    Returns:
        `pca` (model, image, layer, feature, row, column, component) float32, NaN in the background;
        `explained_variance` in model units squared and `explained_variance_ratio` (model, layer, feature, component);
        `photo` (model, image, y, x, rgb).

    Raises:
        UserError: for layers or features that do not exist, or more components than the patches have.

    >>> import clearclip
    >>> from analysis.probes.images import pictures
    >>> dataset = pca_maps(clearclip.load("dino_tiny"), pictures(limit=1), features=["X_sum"])
    >>> dict(dataset.pca.sizes)
    {'model': 1, 'image': 1, 'layer': 1, 'feature': 1, 'row': 8, 'column': 8, 'component': 3}
    """
    layers = model.layers(layers or (model.depth,))
    grid = model.grid(image_size)
    refuse_too_large(model, image_size, batch_size)
    run = _Run(model, pictures, layers, features, image_size, batch_size)
    every, border = _moments(run, _everywhere, _on_border(grid))
    choice: Choice = _everywhere
    if foreground:
        if min(grid) < 3:
            raise UserError(
                f"foreground: {grid[0]} × {grid[1]} patches are all on the border; choose a larger image size."
            )
        choice = _Foreground({site: moments.components(1) for site, moments in every.items()}, border)
        (every,) = _moments(run, choice)
    fitted = {site: _fitted(moments, components, site) for site, moments in every.items()}

    scores, photos = [], []
    for image, maps in run():
        photos.append(thumbnail(image, model))
        scores.append([np.where(choice(site, x)[:, None], fitted[site](x), np.nan) for site, x in maps.items()])
    variance = np.stack([fitted[site].variance for site in run.sites])
    total = np.stack([fitted[site].total for site in run.sites])[:, None]
    shape = (len(layers), len(features))
    along = ("model", "layer", "feature", "component")
    dataset = xr.Dataset(
        {
            "pca": (
                ("model", "image", "layer", "feature", "row", "column", "component"),
                np.array(scores, np.float32).reshape(1, len(pictures), *shape, *grid, components),
                {"long_name": "score of the principal component", "units": "model units"},
            ),
            "explained_variance": (
                along,
                variance.reshape(1, *shape, components),
                {"long_name": "variance along the component", "units": "model units squared"},
            ),
            "explained_variance_ratio": (
                along,
                (variance / total).reshape(1, *shape, components),
                {"long_name": "share of the variance along the component", "units": "1"},
            ),
            "photo": photo(photos),
        },
        {
            "model": [model.name],
            "image": [picture.name for picture in pictures],
            "layer": list(layers),
            "feature": list(features),
            "row": list(range(grid[0])),
            "column": list(range(grid[1])),
            "component": list(range(1, components + 1)),
        },
        {"pca_of": "foreground patches" if foreground else "patches"},
    )
    return describe_model(dataset, model, image_size, pictures)


class _Run:
    """Each picture, and its patches (rows · columns, D) float64 at every site, each time it is called."""

    def __init__(
        self,
        model: Backbone,
        pictures: Sequence[Picture],
        layers: Sequence[int],
        features: Sequence[str],
        image_size: int | None,
        batch_size: int,
    ) -> None:
        self.model, self.pictures, self.batch_size = model, pictures, batch_size
        self.layers, self.features = layers, features
        self.transform = model.transform(image_size)
        self.probe = Probe(model, layers, features, reduce=lambda x: x[:, model.prefix_tokens :].cpu().double())
        self.sites = self.probe.sites

    def __call__(self) -> Iterator[tuple[Tensor, dict[Site, np.ndarray]]]:
        with torch.inference_mode(), self.probe as probe:
            for first in range(0, len(self.pictures), self.batch_size):
                batch = self.pictures[first : first + self.batch_size]
                images = torch.stack([self.transform(picture.read()) for picture in batch])  # (B, 3, H, W)
                maps = probe.run(images)
                for i, picture in enumerate(batch):
                    patches = {site: x[i].numpy() for site, x in maps.items()}
                    finite = np.array([[np.isfinite(x).all() for x in patches.values()]])
                    require_finite(finite, [picture.name], feature_sites(self.layers, self.features), self.model)
                    yield images[i], patches


def _moments(run: _Run, *choices: Choice) -> list[dict[Site, Moments]]:
    """Moments of the patches of all pictures at every site, for each of some choices of patches, from one run."""
    moments = [{site: Moments() for site in run.sites} for _ in choices]
    for _, maps in run():
        for of_choice, choice in zip(moments, choices, strict=True):
            for site, x in maps.items():
                of_choice[site].add(x[choice(site, x)])
    return moments


def _fitted(moments: Moments, components: int, site: Site) -> Components:
    if not 1 <= components <= moments.most:
        raise UserError(
            f"components {components}: {moments.count} patches of {site[1]} in layer {site[0]} have at most {moments.most}. "
            "More pictures or a larger image size give more patches."
        )
    return moments.components(components)


def _everywhere(site: Site, x: np.ndarray) -> np.ndarray:
    return np.ones(len(x), bool)


def _on_border(grid: tuple[int, int]) -> Choice:
    """The outermost rows and columns."""
    border = np.ones(grid, bool)
    border[1:-1, 1:-1] = False
    return lambda site, x: border.ravel()


@dataclass(frozen=True)
class _Foreground:
    """The patches beyond the mean of the first component, on the side that the pictures' borders do not have."""

    first: dict[Site, Components]
    border: dict[Site, Moments]

    def __call__(self, site: Site, x: np.ndarray) -> np.ndarray:
        score = self.first[site]
        return (score(x) * score(self.border[site].mean) < 0)[:, 0]


def report(dataset: xr.Dataset) -> str:
    """The share of the variance that the components have together, layers × models and features."""
    table = dataset.explained_variance_ratio.sum("component", skipna=False).stack(column=("model", "feature"))
    count = dataset.sizes["component"]
    about = f"share of the variance of all {dataset.attrs['pca_of']} in the first {count} principal components"
    text = table.to_pandas().to_string(float_format=lambda value: f"{value:.3f}", na_rep="")
    return f"{about}, {dataset.sizes['image']} images together\n{text}"


def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """One row per model, layer, feature and component: its variance, and its share of the whole."""
    spread = dataset[["explained_variance", "explained_variance_ratio"]].reset_coords(drop=True)
    rows = spread.to_dataframe().reset_index()
    return with_origin(rows.dropna(subset="explained_variance"), dataset)
