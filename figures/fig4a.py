"""Fig. 4a. Normalised entropy of X_res, X_attn and X_sum in every layer, CLIP against DINO.

In the paper's CLIP-B/16 the entropy of X_res and X_sum falls to about 0 in the last layers while X_attn stays near 1; in its
DINO-B/16 all three stay nearly constant. Open markers are those readings.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NEEDS = "statistics"
READINGS = {
    "X_attn": "entropy X_attn CLIP-B/16 all layers",
    "X_res": "entropy X_res and X_sum CLIP-B/16 last layers",
}


def figure(dataset: "xr.Dataset") -> "Figure":
    """Entropy against the layer, a column a model, a row a source of pictures; the paper's readings at the last layer."""
    from analysis import plots
    from analysis.plots.style import FEATURE_STYLE

    drawn = plots.entropy(dataset)
    models = dataset.model.values.tolist()
    marked = False
    for i, panel in enumerate(drawn.axes):
        one = dataset.sel(model=models[i % len(models)])
        if family(str(one.architecture.item())) != "CLIP-B/16":
            continue
        last = int(one.entropy.dropna("layer", how="all").layer[-1])
        for feature, quantity in READINGS.items():
            value = float(reading(quantity).removeprefix("about "))
            look = {
                "markerfacecolor": "white",
                "markersize": 6,
                "markeredgewidth": 1.1,
                "zorder": 1.9,
                "clip_on": False,
            }
            panel.plot(last, value, "d", markeredgecolor=FEATURE_STYLE[feature]["color"], **look)  # type: ignore[arg-type]
            marked = True
    if marked:
        also(
            drawn, f"open markers: the paper's CLIP-B/16; its DINO-B/16 is {reading('entropy all features DINO-B/16')}"
        )
    return drawn


def reading(quantity: str) -> str:
    """What the paper's text or figure says of a quantity, as analysis/sweeps/reference/readings.csv has it.

    >>> reading("max X_res last layer over early layers CLIP-B/16")
    'about 90'
    """
    from analysis.sweeps.published import reference

    return str(reference("readings").set_index("quantity").value[quantity])


def family(architecture: str) -> str:
    """The paper's model that one is to be compared with in Fig. 4, or "" for another kind of model.

    >>> family("zoo:clip_tiny"), family("timm:vit_base_patch16_224.dino"), family("timm:vit_base_patch16_224.mae")
    ('CLIP-B/16', 'DINO-B/16', '')
    """
    name = architecture.lower()
    if "dino" in name:
        return "DINO-B/16"
    return "CLIP-B/16" if "clip" in name.replace("open_clip:", "") or name.startswith("open_clip:vit") else ""


def also(drawn: "Figure", line: str) -> None:
    """One more line of the small print below a figure."""
    drawn.supxlabel(f"{drawn.get_supxlabel()}\n{line}", fontsize=6.5, color="#555555")
