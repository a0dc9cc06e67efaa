"""What do recipes and feature maps make of the same pictures? Label maps beside photo and truth (paper Figs. 1, 3, 7, 10, 11).

    python -m analysis.maps --model clip_vitb16 --dataset coco_stuff:data/coco --recipe clip maskclip sclip clearclip
    python -m analysis.maps --model clip_vitb16 --images my/photos --classes "horse, grass, sky"

All recipes of a picture share one pass through the model. The Dataset holds pictures and label maps, with a long side of
512 pixels at most, so name few pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clearclip.cli import options, run
from clearclip.errors import UserError
from clearclip.loaders import loaders
from clearclip.names import SHIPPED

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.figure import Figure

    from clearclip.datasets.base import Sample
    from clearclip.overlay import Row
    from clearclip.recipes import Recipe
    from clearclip.segmenter import Segmenter
    from clearclip.vit import Backbone

FEATURES = ("X_sum", "X_res", "X_attn")  # in the order of the paper's Fig. 1
RECIPES = ("clip", "maskclip", "sclip", "clearclip", *FEATURES)
LONG_SIDE = 512  # pixels that are kept of a picture's long side
SCENE_SIZE = 192
PRINTED = 7.0  # inches, the width of a figure over two columns


@dataclass(frozen=True)
class MapsOptions:
    """Which model, which pictures, which recipes, and where the results go."""

    model: tuple[str, ...] = ("clip_tiny",)
    """One or several CLIPs, such as clip_vitb16; by default the small one that comes with the package."""
    checkpoint: tuple[Path, ...] = ()
    """Local weights (safetensors or weights-only .pt) instead of the hub's, one file for each model, - for none."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    dataset: str = "scenes"
    """A data set and its folder, such as coco_stuff:data/coco, or scenes, scenes_background and scenes_things, which are drawn."""
    images: tuple[str, ...] = ()
    """Photos or folders of them instead of a data set; they have no true labels."""
    classes: str = ""
    """With --images, the classes: "horse, grass, sky"; names of one class are joined with |."""
    recipe: tuple[str, ...] = RECIPES
    """Recipes by name, and X_sum, X_res or X_attn for a feature map of the last block."""
    first: int = 0
    """The first picture of the data set that is used, counted from 0."""
    limit: int = 4
    """How many pictures."""
    batch_size: int = 8
    """Windows in one forward pass."""
    device: str | None = None
    """cpu, cuda, mps, …; by default the accelerator if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    output: Path = Path("results/maps.nc")
    """The Dataset, a .nc file; the .csv goes beside it."""
    figure: Path | None = None
    """The figure, .png, .pdf or .svg; by default beside the Dataset."""
    data: Path | None = None
    """Draw an existing Dataset again, without running any model."""
    text_cache: Path | None = None
    """Where text embeddings are kept; by default clearclip/text in the user's cache folder."""
    strict: bool = False
    """Stop at the first picture that cannot be read, instead of naming and skipping it."""


def label_maps(
    model: "Backbone",
    samples: "Sequence[Sample]",
    classes: "Sequence[str] | Sequence[Sequence[str]] | str",
    recipes: "Sequence[str | Recipe]" = RECIPES,
    batch_size: int = 8,
    cache: Path | None = None,
) -> "xr.Dataset":
    """What every recipe makes of a few pictures, from one pass each.

    Args:
        samples: pictures; a label map of size 0 means that there are no true labels.
        classes: as for `clearclip.Segmenter`. recipes: names, X_sum, X_res, X_attn or `Recipe`s.

    Returns a Dataset with `picture` (image, row, column, rgb) uint8, `labels` (model, recipe, image, row, column), and, if
    there are true labels, `truth` (image, row, column) and `pixel_accuracy` (model, recipe, image) in %, which is counted on
    the whole picture. Labels are indices of `class`; the largest value of their type means not labelled, or beyond the picture,
    whose `height` and `width` lie along `image`.
    """
    import numpy as np
    import xarray as xr

    from clearclip.segmenter import Segmenter

    chosen = recipes_of(recipes)
    segmenter = Segmenter(model, classes, chosen, batch_size=batch_size, cache=cache)
    named = [str(name) for name in segmenter.queries.classes]
    kind: Any = np.uint8 if len(named) < 255 else np.uint16
    none = int(np.iinfo(kind).max)
    whole = [_one(segmenter, sample, kind) for sample in samples]
    pictures, maps, truths, accuracy = zip(*whole, strict=True)
    height, width = (max(one.shape[axis] for one in pictures) for axis in (0, 1))

    def padded(arrays: "Sequence[np.ndarray]", fill: int) -> "np.ndarray":
        spare = [((0, height - a.shape[0]), (0, width - a.shape[1]), *[(0, 0)] * (a.ndim - 2)) for a in arrays]
        return np.stack([np.pad(a, pad, constant_values=fill) for a, pad in zip(arrays, spare, strict=True)])

    of_recipes = [padded([by_recipe[i] for by_recipe in maps], none) for i in range(len(chosen))]
    variables: dict[str, Any] = {
        "picture": (
            ("image", "row", "column", "rgb"),
            padded(pictures, 255),
            {"long_name": "picture", "units": "grey levels"},
        ),
        "labels": (
            ("model", "recipe", "image", "row", "column"),
            np.stack(of_recipes)[None],
            {"long_name": "label map", "units": "class index", "not_labelled": none},
        ),
    }
    if all(truth.size for truth in truths):
        variables["truth"] = (
            ("image", "row", "column"),
            padded(truths, none),
            {"long_name": "true labels", "units": "class index", "not_labelled": none},
        )
        variables["pixel_accuracy"] = (
            ("model", "recipe", "image"),
            np.array(accuracy).T[None],
            {"long_name": "pixel accuracy", "units": "%"},
        )
    coords = {
        "model": [model.name],
        "recipe": [one.name for one in chosen],
        "image": [sample.name for sample in samples],
        "class": named,
        "rgb": ["red", "green", "blue"],
        "height": ("image", [one.shape[0] for one in pictures], {"units": "pixels"}),
        "width": ("image", [one.shape[1] for one in pictures], {"units": "pixels"}),
    }
    return _described(xr.Dataset(variables, coords), model, chosen)


def recipes_of(names: "Sequence[str | Recipe]") -> "list[Recipe]":
    """Recipes by name, where X_sum, X_res and X_attn stand for the feature maps of the last block.

    >>> [recipe.residual for recipe in recipes_of(["X_attn", "clip"])]
    [False, True]
    """
    from clearclip.recipes import feature_recipe, recipes

    return recipes([feature_recipe(str(name)) if name in FEATURES else name for name in names])


def _one(
    segmenter: "Segmenter", sample: "Sample", kind: Any
) -> "tuple[np.ndarray, list[np.ndarray], np.ndarray, list[float]]":
    """Picture, label maps and true labels of one sample at the size that is kept, and each recipe's pixel accuracy."""
    import numpy as np
    from PIL import Image

    results = segmenter.each(sample.image)[0].values()
    scale = min(1.0, LONG_SIDE / max(sample.image.size))
    size = max(1, round(sample.image.width * scale)), max(1, round(sample.image.height * scale))

    def smaller(labels: "np.ndarray") -> "np.ndarray":
        columns, rows = (
            ((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip(size, labels.shape[::-1], strict=True)
        )
        return labels[rows[:, None], columns]  # the nearest pixel

    given = np.asarray(sample.label)
    none = np.iinfo(kind).max
    known = (given >= 0) & (given < len(segmenter.queries.classes))
    truth = np.where(known, given, none).astype(kind)
    accuracy = [
        float(100 * (one.labels == truth)[known].mean()) if known.any() else np.nan for one in results if given.size
    ]
    picture = np.asarray(sample.image if scale == 1 else sample.image.resize(size, Image.Resampling.LANCZOS))
    kept = [smaller(one.labels.astype(kind)) for one in results]
    return picture, kept, smaller(truth) if given.size else truth, accuracy


def _described(dataset: "xr.Dataset", model: "Backbone", recipes: "Sequence[Recipe]") -> "xr.Dataset":
    """With the origin of the model's weights along `model`, what each recipe does along `recipe`, and provenance."""
    from clearclip import results

    knobs = {
        "attention": [one.affinity for one in recipes],
        "residual": [one.residual for one in recipes],
        "ffn": [one.ffn for one in recipes],
        "alpha": [float(one.alpha) for one in recipes],
        "layer": [model.depth if one.layer is None else one.layer for one in recipes],
    }
    about = results.about_model(model)
    dataset = dataset.assign_coords({name: ("model", [value]) for name, value in about.items()})
    dataset = dataset.assign_coords({name: ("recipe", values) for name, values in knobs.items()})
    dataset.attrs = {"images": dataset.sizes["image"], **results.provenance()}
    return dataset


# reading and drawing -------------------------------------------------------------------------------------------------


def read(path: Path) -> "xr.Dataset":
    """A Dataset of this command; raises `UserError` for another file."""
    from clearclip import results

    dataset = results.read(path)
    if "labels" not in dataset or "picture" not in dataset:
        raise UserError(f"{path} has no label maps: write it with python -m analysis.maps.")
    return dataset


def rows(
    dataset: "xr.Dataset",
    model: str | None = None,
    recipes: Sequence[str] | None = None,
    images: Sequence[int] | None = None,
    truth: bool = True,
) -> "list[Row]":
    """The pictures with their true labels and label maps at their own size, for `clearclip.overlay`.

    Raises `UserError` if the Dataset lacks one of the recipes.
    """
    from analysis.sweep_plot import METHOD_LABEL
    from clearclip.overlay import Row

    known = dataset.recipe.values.tolist()
    missing = [name for name in recipes or () if name not in known]
    if missing:
        raise UserError(f"this Dataset has no label maps of {', '.join(missing)}, but of {', '.join(known)}.")
    one = dataset.sel(model=dataset.model.values[0] if model is None else model)
    found = []
    for image in range(dataset.sizes["image"]) if images is None else images:
        cut = one.isel(image=image)
        cut = cut.isel(row=slice(int(cut.height)), column=slice(int(cut.width)))
        found.append(
            Row(
                cut.picture.values,
                {METHOD_LABEL.get(name, name): cut.labels.sel(recipe=name).values for name in recipes or known},
                cut.truth.values if truth and "truth" in cut else None,
            )
        )
    return found


def heading(dataset: "xr.Dataset", model: str | None = None) -> tuple[str, bool]:
    """One line that says which model and pictures are shown, and whether the weights are random."""
    import numpy as np

    from analysis.sweep_plot import dataset_label

    one = dataset.sel(model=dataset.model.values[0] if model is None else model)
    random = bool(one.random_weights)
    source = dataset_label(str(dataset.attrs.get("dataset", ""))).replace("\n", " ")
    parts = [str(one.model.values), *([source] if source else [])]
    if random:
        parts.append("RANDOM WEIGHTS, the picture means nothing")
    elif np.isin(one.architecture.item(), [f"zoo:{name}" for name in SHIPPED]):
        parts.append("a small model trained on drawn scenes, shipped with the toolkit")
    return " · ".join(parts), random


def figure(
    dataset: "xr.Dataset",
    recipes: Sequence[str] | None = None,
    images: Sequence[int] | None = None,
    width: float | None = None,
) -> "Figure":
    """Figs. 7, 10, 11: a row a picture (and model), columns photo, ground truth and recipes, one legend.

    `width` is that of the whole figure in inches; by default the columns are as wide as can be looked at.
    """
    from dataclasses import replace

    from clearclip.overlay import few_colors, grid, titles

    models = dataset.model.values.tolist()
    by_model = {model: rows(dataset, model, recipes, images) for model in models}
    lines = [replace(row, name=model if len(models) > 1 else "") for model in models for row in by_model[model]]
    said = [heading(dataset, model) for model in models]
    columns = len(titles(lines[0]))
    each = (min(1.9, 11 / columns)) if width is None else width / columns
    title = "\n".join(line for line, _ in said)
    return grid(lines, few_colors(lines, dataset["class"].values.tolist()), title, any(warn for _, warn in said), each)


# the command ---------------------------------------------------------------------------------------------------------


def samples_of(chosen: MapsOptions) -> "tuple[list[Sample], list[str] | str]":
    """The pictures of a command, with their labels if they have any, and the classes."""
    from clearclip.pictures import BadImage

    if chosen.limit < 1 or chosen.first < 0:
        raise UserError(f"limit {chosen.limit} and first {chosen.first}: at least one picture, counted from 0.")
    found: list[Sample] = []
    source, classes = _photos(chosen) if chosen.images else _labelled(chosen)
    for read_one in source:
        try:
            found.append(read_one())
        except BadImage as error:
            if chosen.strict:
                raise UserError(f"{error} (refused because of strict)") from error
            print(f"skipped: {error}")
        if len(found) == chosen.limit:
            break
    if not found:
        raise UserError("not one picture could be used.")
    return found, classes


def _photos(chosen: MapsOptions) -> tuple[Iterator[Any], str]:
    """Photos without labels."""
    import numpy as np

    from analysis.images import pictures
    from clearclip.datasets.base import Sample
    from clearclip.text import class_names

    class_names(chosen.classes)
    none = np.zeros((0, 0), np.uint8)
    listed = pictures(chosen.images)[chosen.first :]
    return ((lambda one=one: Sample(one.read(), none, one.name)) for one in listed), chosen.classes


def _labelled(chosen: MapsOptions) -> tuple[Iterator[Any], list[str]]:
    """The pairs of a data set."""
    from clearclip.datasets import DRAWN, load, parse

    if chosen.classes:
        raise UserError("--classes goes with --images; a data set has its own.")
    # scenes are the same at every size, and drawn finer for the eye than for statistics
    drawn = chosen.dataset in DRAWN
    dataset = load(chosen.dataset, split="test", size=SCENE_SIZE) if drawn else parse(chosen.dataset)
    if chosen.first >= len(dataset):
        raise UserError(f"first {chosen.first}: {dataset.name} has {len(dataset)} pictures.")
    return ((lambda i=i: dataset[i]) for i in range(chosen.first, len(dataset))), list(dataset.classes)


def main() -> None:
    """The command `python -m analysis.maps`."""
    chosen = options(MapsOptions, __doc__ or "")
    from clearclip import results, style

    output = chosen.data or chosen.output
    if output.suffix != ".nc":
        raise UserError(f"{output}: the Dataset is written as NetCDF, so name a .nc file.")
    drawing = chosen.figure or output.with_suffix(".png")
    style.check_suffix(drawing)
    recipes_of(chosen.recipe)
    dataset = read(chosen.data) if chosen.data is not None else _measured(chosen)
    for model in dataset.model.values.tolist():
        print(heading(dataset, model)[0])
    table = _table(dataset)
    if table is not None:
        print("pixel accuracy [%]")
        print(table.to_string(float_format=lambda value: f"{value:.1f}", na_rep=""))
    written = []
    if chosen.data is None:
        results.write(dataset, output)
        written.append(output)
        if table is not None:
            written.append(output.with_suffix(".csv"))
            table.to_csv(written[-1])
    style.save(figure(dataset), drawing)
    print("wrote " + ", ".join(map(str, [*written, drawing])))


def _measured(chosen: MapsOptions) -> "xr.Dataset":
    """The Dataset over all models."""
    import xarray as xr

    from clearclip.text import default_cache

    every = loaders(chosen.model, chosen.checkpoint, chosen.random, chosen.device, chosen.precision)
    samples, classes = samples_of(chosen)
    cache = chosen.text_cache or default_cache()
    found = [label_maps(load(), samples, classes, chosen.recipe, chosen.batch_size, cache) for load in every]
    dataset = xr.concat(
        found, "model", data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    )
    dataset.attrs["dataset"] = "" if chosen.images else chosen.dataset.partition(":")[0]
    return dataset


def _table(dataset: "xr.Dataset") -> Any:
    """Pixel accuracy, a row a model and picture, a column a recipe; None without true labels."""
    if "pixel_accuracy" not in dataset:
        return None
    stacked = dataset.pixel_accuracy.reset_coords(drop=True).transpose("model", "image", "recipe")
    return stacked.stack(line=("model", "image")).to_pandas().T


if __name__ == "__main__":
    run(main)
