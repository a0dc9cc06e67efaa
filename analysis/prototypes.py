"""Which feature map knows what is where, without any text? Nearest class prototypes in X_res, X_attn, X_sum of every layer.

    python -m analysis.prototypes --model dinov2_vits14 --dataset data/my_pictures

For any model, DINO included. Pictures 0, 2, 4, … of a labelled data set give the prototypes (the mean patch feature of each
class), pictures 1, 3, 5, … are segmented: every pixel takes the class of the prototype that its feature is most similar to.
Similarity is the cosine, of features as they are ("cosine") or with the channels' mean and deviation taken out
("standardised"), so that a few large channels cannot decide alone. Ctrl-C loses nothing: the same command continues.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clearclip.cli import options, run
from clearclip.errors import UserError
from clearclip.names import SHIPPED

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from clearclip.datasets import LabelledPictures


@dataclass(frozen=True)
class PrototypeOptions:
    """Which models, which labelled pictures, and where the results go."""

    model: tuple[str, ...] = SHIPPED
    """One or several models, such as dinov2_vits14 clip_vitb16 or timm:<arch.tag>; by default the two small ones that come
    with the package."""
    checkpoint: tuple[Path, ...] = ()
    """Local weights (safetensors or weights-only .pt) instead of the hub's, one file for each model, - for none."""
    random: bool = False
    """Random weights, for a trial without any; every result says so."""
    dataset: tuple[str, ...] = ("scenes",)
    """One or several of voc20, voc21, context59, context60, coco_object, coco_stuff, cityscapes, ade20k, each with its
    folder, as voc20:data/voc (by default below data/); scenes, scenes_background and scenes_things (drawn); or a folder of your own
    with images/, labels/, classes.txt."""
    split: str | None = None
    """By default val, and test for drawn scenes. Both halves are taken from it."""
    partial: bool = False
    """Use the complete pairs of a half-unpacked folder."""
    limit: int | None = None
    """Only the first so many pictures of each data set, for both halves together."""
    short_side: int | None = None
    """Pixels to which the short side of a picture is resized; by default the segmentation protocol's 448, in proportion for
    models of small pictures."""
    layers: tuple[int, ...] = ()
    """Only these layers, counted from 1 as in the paper."""
    batch_size: int = 8
    """Pictures in one forward pass, where they are equal in size."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps, …; by default the accelerator if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """fp32, or autocast to bf16 or fp16."""
    output: Path | None = None
    """The Dataset, a .nc file; by default results/prototypes.nc. The .csv goes beside it."""
    figure: Path | None = None
    """The figure, .png, .pdf or .svg; by default beside the Dataset."""
    data: Path | None = None
    """Draw an existing Dataset again, without running any model."""
    strict: bool = False
    """Stop at the first picture or label that cannot be used, instead of naming, counting and skipping it."""


def figure(dataset: "xr.Dataset") -> "Figure":
    """mIoU of X_res, X_attn, X_sum against the layer, a column a model, a row a data set; hollow markers are standardised."""
    from analysis import sweep_plot
    from analysis.plot import FEATURE_LABEL, FEATURE_STYLE, layer_axis, title
    from clearclip.blocks import FEATURES
    from clearclip.style import style

    names, models = dataset.dataset.values.tolist(), dataset.model.values.tolist()
    looks: dict[str, dict[str, Any]] = {
        "cosine": {"markeredgecolor": "white"},
        "standardised": {"markerfacecolor": "white", "linestyle": (0, (1, 1.2)), "linewidth": 1.1, "markersize": 3.5},
    }
    with style():
        drawn, grid = sweep_plot.panel_grid(len(names), len(models), height=1.9, sharey="row")
        for row, name in zip(grid, names, strict=True):
            for panel, model in zip(row, models, strict=True):
                one = dataset.miou.sel(model=model, dataset=name).dropna("layer", how="all")
                for similarity, look in looks.items():
                    for feature in FEATURES:
                        values = one.sel(feature=feature, similarity=similarity)
                        panel.plot(one.layer, values, label=f"{feature} {similarity}", **FEATURE_STYLE[feature] | look)
                layer_axis(panel, one.layer.values.tolist())
                panel.set_xlabel("layer" if name == names[-1] else "")
                if name == names[0]:
                    title(panel, dataset, model)
            row[0].set_ylim(bottom=0)
            row[0].set_ylabel(f"{sweep_plot.mean_label([name])}\nmIoU (%)")
        grey = {"color": "#555555", "marker": "o"}
        entries = [(FEATURE_LABEL[name], FEATURE_STYLE[name]) for name in FEATURES]
        below = [(name, grey | look) for name, look in looks.items()]
        if len(models) == 1:  # too narrow for one row: features in the first, similarities in the second
            entries = [entries[0], below[0], entries[1], below[1], entries[2]]
        else:
            entries += below
        sweep_plot.method_legend(drawn, dict(entries))
        sweep_plot.caption(drawn, dataset, names, "nearest class prototype from the other half")
    return drawn


def main() -> None:
    """The command `python -m analysis.prototypes`."""
    chosen = options(PrototypeOptions, __doc__ or "")
    from clearclip import style

    output = chosen.data or chosen.output or Path("results", "prototypes.nc")
    if output.suffix != ".nc":
        raise UserError(f"{output}: the Dataset is written as NetCDF, so name a .nc file.")
    picture = chosen.figure or output.with_suffix(".png")
    style.check_suffix(picture)
    if chosen.data:
        from analysis.prototype_results import read

        dataset, written = read(chosen.data), [picture]
    else:
        dataset, written = measure_all(chosen, output), [output, output.with_suffix(".csv"), picture]
    report(dataset)
    if not chosen.data:
        from analysis.prototype_results import tidy

        tidy(dataset).to_csv(written[1], index=False)
    style.save(figure(dataset), picture)
    print("wrote " + ", ".join(map(str, written)))


def measure_all(chosen: PrototypeOptions, output: Path) -> "xr.Dataset":
    """One Dataset over all models and data sets, written; with torchrun only the first process returns."""
    from analysis.prototype_results import merge
    from analysis.prototype_run import measure
    from clearclip import results
    from clearclip.loaders import loaders
    from clearclip.processes import processes

    datasets = opened(chosen)
    found, kept = [], []
    for load in loaders(chosen.model, chosen.checkpoint, chosen.random, chosen.device, chosen.precision):
        model = load()
        for dataset in datasets:
            kept.append(results.unfinished(output, model.name, dataset.name))
            found.append(
                measure(
                    model,
                    dataset,
                    layers=chosen.layers or None,
                    short_side=chosen.short_side,
                    batch_size=chosen.batch_size,
                    limit=chosen.limit,
                    strict=chosen.strict,
                    unfinished=kept[-1],
                )
            )
    merged = merge(found)
    processes().leave_the_rest_to_the_first()
    results.write(merged, output)
    results.discard(kept)
    return merged


def opened(chosen: PrototypeOptions) -> "list[LabelledPictures]":
    """The data sets under their own class names, all of them opened before anything runs; none twice."""
    from clearclip.datasets import parse

    datasets = [parse(text, "standard", chosen.split, chosen.partial) for text in chosen.dataset]
    called = [dataset.name for dataset in datasets]
    if not called or len(set(called)) != len(called):
        raise UserError(f"data sets {', '.join(called) or '(none)'}: at least one, and each name once.")
    return datasets


def report(dataset: "xr.Dataset") -> None:
    """Print a table and a few lines for every model and data set, what was skipped and which weights are random."""
    import json

    from analysis.prototype_results import panels, summary, table

    for one in panels(dataset):
        print(
            f"{one.model.item()} on {one.dataset.item()}, short side {int(one.short_side)} px: mIoU in percent of "
            f"{int(one.images)} pictures, prototypes from {int(one.prototype_images)} others"
        )
        print(table(one).to_string(float_format=lambda value: f"{value:.1f}", na_rep=""))
        print("\n".join(summary(one)) + "\n")
    for model, random in zip(dataset.model.values, dataset.random_weights.values, strict=True):
        if random:
            print(f"{model}: RANDOM WEIGHTS, numbers say nothing about a trained model")
    skipped = json.loads(dataset.attrs["skipped"])
    if skipped:
        print(f"skipped {len(skipped)} pictures that could not be used")


if __name__ == "__main__":
    run(main)
