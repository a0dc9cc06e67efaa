"""Fig. 3. mIoU of the label maps from X_sum, X_res and X_attn of the last block (q-k attention), beside some of these maps.

Open markers are the paper's values for CLIP-B/16 on COCO-Stuff.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = ("layers", "maps_fig7")
SHOWN = ("X_sum", "X_res", "X_attn")
PICTURES = 3


def figure(layers: "xr.Dataset", pictures: "xr.Dataset") -> "Figure":
    """Bars for the first model of both Datasets, on COCO-Stuff or else the first dataset, and the maps of three pictures."""
    import matplotlib.pyplot as plt

    from analysis.plots.label_pictures import heading, rows
    from analysis.plots.style import DOUBLE
    from clearclip.segmentation.overlay import draw_row, few_colors, handles, titles
    from clearclip.segmentation.style import WARNING_COLOR, style

    model = str(pictures.model.values[0])
    lines = rows(pictures, model, SHOWN, range(min(PICTURES, pictures.sizes["image"])))
    colors = few_colors(lines, pictures["class"].values.tolist())
    names = titles(lines[0])
    ratios = [row.picture.shape[0] / row.picture.shape[1] for row in lines]
    bar_width = 1.9
    cell = (DOUBLE - bar_width) / len(names)
    legend_rows = -(-len(colors.legend) // 5)
    with style():
        drawn = plt.figure(figsize=(DOUBLE, max(cell * sum(ratios), 1.9) + 0.75 + 0.19 * legend_rows))
        spec = drawn.add_gridspec(
            len(lines), len(names) + 1, width_ratios=[bar_width, *[cell] * len(names)], height_ratios=ratios
        )
        _bars(drawn.add_subplot(spec[:, 0]), layers, model)
        for i, row in enumerate(lines):
            line = [drawn.add_subplot(spec[i, 1 + j]) for j in range(len(names))]
            draw_row(line, row, colors)
            for panel, name in zip(line, names, strict=True):
                panel.set_title(name if i == 0 else "")
        drawn.legend(handles=handles(colors), loc="outside lower right", ncols=5)
        said, warn = heading(pictures, model)
        drawn.suptitle(said, fontsize=8, color=WARNING_COLOR if warn else "#555555")
    return drawn


def _bars(axes: "Axes", layers: "xr.Dataset", model: str) -> None:
    """One bar a feature map in its own colour, its value above it, the paper's beside it."""
    from analysis.plots.style import FEATURE_LABEL, FEATURE_STYLE
    from analysis.sweeps.labels import dataset_label
    from analysis.sweeps.published import reference
    from analysis.sweeps.read import by_layer
    from clearclip.errors import UserError

    names = layers.dataset.values.tolist()
    if model not in layers.model.values:
        raise UserError(f"the label maps are of {model}, the mIoU of {', '.join(layers.model.values)}.")
    name = "coco_stuff" if "coco_stuff" in names else str(names[0])
    values = by_layer(layers).sel(model=model, dataset=name).dropna("layer", how="all").isel(layer=-1)
    printed = reference("fig3").set_index("feature").COCOStuff
    for x, feature in enumerate(SHOWN):
        value = float(values.sel(feature=feature))
        axes.bar(x, value, width=0.62, color=FEATURE_STYLE[feature]["color"])
        axes.annotate(f"{value:.1f}", (x, value), (0, 2), textcoords="offset points", ha="center", fontsize=7)
        look = {"markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4.5}
        label = "paper: CLIP-B/16,\nCOCO-Stuff" if x == 0 else "_"
        axes.plot(x + 0.36, float(printed[feature]), "d", label=label, clip_on=False, zorder=5, **look)  # type: ignore[arg-type]
    axes.set_xticks(range(len(SHOWN)), [FEATURE_LABEL[feature] for feature in SHOWN])
    axes.set_ylabel(f"mIoU (%), {dataset_label(name)}, {int(layers.images.sel(model=model, dataset=name))} images")
    axes.set_ylim(0, 1.3 * max(float(values.max()), float(printed.max())))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left", fontsize=6.5, handletextpad=0.2, borderaxespad=0.1)
