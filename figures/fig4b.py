"""Fig. 4b. The largest entry of X_res, X_attn and X_sum in every layer, CLIP against DINO.

In the paper's CLIP-B/16 the maximum of X_res in the last layer is about 90 times that of early layers; in its DINO-B/16 it
stays mostly below 10. The same numbers of the models shown stand in their panels.
"""

from typing import TYPE_CHECKING

from figures.fig4a import family, reading

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "statistics"
EARLY = 3  # layers, from the first, that count as early
HEADROOM = 0.25  # of the axis, for the readings


def figure(dataset: "xr.Dataset") -> "Figure":
    """Maxima against the layer, a column a model, a row a source of pictures, with the paper's two readings."""
    from analysis import plots

    drawn = plots.maxima(dataset)
    models = dataset.model.values.tolist()
    for i, panel in enumerate(drawn.axes):
        source = list(dict.fromkeys(dataset.source.values.tolist()))[i // len(models)]
        one = dataset.sel(model=models[i % len(models)]).isel(image=dataset.source.values == source)
        text = summary(one)
        if text:
            panel.text(0.03, 0.97, text, transform=panel.transAxes, va="top", fontsize=6.5, color="#444444")
    first = drawn.axes[0]  # all panels share their scale
    low, high = first.get_ylim()
    logarithmic = first.get_yscale() == "log"
    first.set_ylim(low, high * (high / low) ** HEADROOM if logarithmic else high + HEADROOM * (high - low))
    return drawn


def growth(dataset: "xr.Dataset") -> float:
    """The maximum of X_res in the last layer over that of the early ones, of one model, in means over images."""
    means = dataset.maximum.sel(tokens="patches", feature="X_res").mean("image").dropna("layer")
    return float(means[-1] / means[:EARLY].mean())


def summary(dataset: "xr.Dataset") -> str:
    """What the paper reads off for this kind of model, measured and published, or nothing."""
    paper = family(str(dataset.architecture.item()))
    if paper == "CLIP-B/16":
        said = reading("max X_res last layer over early layers CLIP-B/16")
        return f"$X_\\mathrm{{res}}$, last / early layers: {growth(dataset):.1f}×\n(paper, {paper}: {said}×)"
    if paper == "DINO-B/16":
        largest = float(dataset.maximum.sel(tokens="patches").mean("image").max())
        said = reading("max of any feature map DINO-B/16")
        return f"largest: {largest:.1f}\n(paper, {paper}: {said})"
    return ""
