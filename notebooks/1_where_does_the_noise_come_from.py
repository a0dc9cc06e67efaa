# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
# Installs the toolkit where it is missing, from the folder above this notebook.
from importlib.util import find_spec

if find_spec("clearclip") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install ..")

# %% [markdown]
# # 1 · Where does the noise come from?
#
# A CLIP learns which sentence belongs to which picture. Ask every *patch* of the picture which word it is closest to,
# and you get a map of the picture, but a noisy one. ClearCLIP looks for the place where the noise enters and finds it
# in the last block, which adds two maps:
#
# $$X_\mathrm{sum} = X_\mathrm{res} + X_\mathrm{attn}$$
#
# the residual connection (all that earlier blocks have written) and the output of the attention. This notebook reads
# the three maps one by one (paper Figs. 1, 3 and 9).
#
# It runs without a network on the small CLIP that comes with the package, which knows drawn scenes only. For the real
# one change the first line of the next cell; for photographs with labels the second.

# %%
from clearclip.datasets import load

MODEL = "clip_tiny"  # the real one: "clip_vitb16"
DATA = load("scenes", split="test", size=128)  # photographs: load("voc20", "data/voc")
ROWS, LIMIT = (0, 3, 4), 24  # the pictures that are drawn, and how many are measured

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import clearclip
from analysis import plots
from analysis.probes.feature_maps import feature_maps, peaks
from analysis.probes.label_maps import label_maps
from analysis.prototypes import run as prototype_run
from analysis.sweeps import read, recipe_lists

model = clearclip.load(MODEL)
print(f"{model.name}: {model.depth} blocks, {model.width} channels, weights: {model.weights.name}")

# %% [markdown]
# ## The three maps, seen
#
# Each map goes through the model's own last normalisation and projection and is compared with the class names. Beside
# them: `CLIP`, the block as it is, and `ClearCLIP`, which keeps the attention output alone, with q-q attention and
# without FFN.

# %%
READ = ["X_sum", "X_res", "X_attn", "clip", "clearclip"]
samples = [DATA[i] for i in range(LIMIT)]
maps = label_maps(model, samples, DATA.classes, READ)
maps.attrs["dataset"] = DATA.name

plots.label_maps(maps, images=ROWS)
plt.show()

# %% [markdown]
# **What one sees.** `X_sum` and `X_res` set the things apart from the ground, but give them wrong names. `X_attn` names
# the ground rightly and covers most things with it. `ClearCLIP` finds many of the things, too. So two questions have to
# be kept apart: *are the regions right*, and *are their names right*?
#
# The small CLIP was chosen because it shows the paper's effect. Where it still differs from the paper, a line in bold
# says so, here and in the other notebooks; its card, `clearclip/zoo/weights/clip_tiny.md`, has all differences.

# %% [markdown]
# ## The three maps, measured
#
# `right` is the share of pixels with the true class. `regions right` asks about the regions only: each found region
# takes the true class that is most frequent in it, as if someone corrected its name by hand. A picture left as one
# region already gets the number in the last row, and more regions make it easier, so `regions` tells how many there are
# (names on over 1 % of a picture).


# %%
def regions_right(labels: np.ndarray, truth: np.ndarray) -> float:
    """Percent of pixels that are right once every region has the best name."""
    pairs = pd.crosstab(labels.ravel(), truth.ravel()).to_numpy()
    return 100 * pairs.max(1).sum() / pairs.sum()


def measured(predicted: list[np.ndarray], truth: list[np.ndarray]) -> dict[str, float]:
    """What the table below has in its columns."""
    counts = [np.unique(labels, return_counts=True)[1] / labels.size for labels in predicted]
    return {
        "right": np.mean([100 * (labels == true).mean() for labels, true in zip(predicted, truth, strict=True)]),
        "regions right": np.mean([regions_right(labels, true) for labels, true in zip(predicted, truth, strict=True)]),
        "regions": np.mean([(shares > 0.01).sum() for shares in counts]),
    }


truth = [sample.label for sample in samples]
numbers = {name: measured(list(maps.labels.sel(recipe=name).values[0]), truth) for name in READ}
numbers["one region"] = {**measured([np.zeros_like(labels) for labels in truth], truth), "right": np.nan}
pd.DataFrame(numbers).T.round(1)

# %% [markdown]
# **In the small model** the names are in the attention output. `X_res` has the most regions and hardly a right name,
# and `X_sum` suffers from it. q-q attention (`ClearCLIP`) adds things to what `X_attn` says of the ground. **The paper**
# reports the same order for the real CLIP-B/16 (Fig. 3, mIoU on COCO-Stuff): 4.4 for `X_sum`, 0.01 for `X_res` and 11.6
# for `X_attn`.
#
# **Different from the paper:** the small model's `X_attn` has hardly more than one region in a picture, while its `X_res`
# follows the outlines. In the paper's pictures `X_attn` is the clean map.
#
# ## Which layer speaks the language of the text?
#
# Nothing forces us to read the last block. Reading the three maps of *every* block in the same way gives a "logit lens"
# for patches, all from one pass over the pictures. mIoU is the mean, over classes, of the overlap between found and
# true pixels.

# %%
lens = clearclip.evaluate(model, DATA, recipe_lists.layers(model), limit=LIMIT, progress=False)
plots.layers(lens)
plt.show()

# %%
by_layer = read.by_layer(lens).squeeze().to_pandas()
for name in by_layer:
    print(f"{name} is best in block {by_layer[name].idxmax()}, with {by_layer[name].max():.1f} % mIoU")
by_layer.round(1)

# %% [markdown]
# **What one sees in the small model.** Only the last attention output speaks the language of the text. The residual
# speaks it nowhere, and adding it takes most of the mIoU away again. A reason can be given here, because the training
# is known: `docs/residual.md` reports which changes of the training made the residual hurt.
#
# ## Is it only the words?
#
# The text can be left out altogether: half of the pictures give the mean feature of each class, and the other half is
# segmented by the most similar of these. That asks what a map *knows*, in whatever direction it may be written.

# %%
known = prototype_run.measure(model, DATA, limit=2 * LIMIT, progress=False)
plots.prototypes(known)
plt.show()

# %%
last = known.miou.sel(layer=[model.depth - 1, model.depth]).squeeze()
last.stack(map=("similarity", "feature")).reset_coords(drop=True).to_pandas().T.round(1)

# %% [markdown]
# **In the small model** the order turns round without the text: the residual knows the classes far better than the
# attention output. So what the text takes for noise is not empty. It is knowledge in directions that the text does not
# read, and the last attention translates a part of it.
#
# ## The residual from inside
#
# Why would a residual be noisy at all? The paper shows the maps as surfaces over tokens and channels (Fig. 9): in the
# real CLIP a few channels of `X_res` tower over all others, and adding `X_attn` changes nothing there.

# %%
surfaces = feature_maps(model, [DATA[i].image for i in ROWS])
plots.feature_maps(surfaces.isel(image=[0]))
plt.show()

# %%
strongest = peaks(surfaces.feature_map, count=1)
strongest["peak over median"] = strongest["value"].abs() / strongest["median"]
columns = ["value", "median", "peak over median"]
strongest.groupby("feature")[columns].agg(lambda values: values.abs().mean()).round(1)

# %% [markdown]
# **What one sees.** In the small model, too, the residual is several times larger than the attention output, entry by
# entry, so it decides the sum.
#
# **Different from the paper:** its peaks stand only a few times above the median entry, no more than those of the
# attention output. In the real CLIP-B/16 the largest entry of the last `X_res` is about 90 times that of early layers.
# The small model has the *imbalance* of the paper, not its towering channels.
#
# ## What to take home
#
# | | the paper, real CLIP-B/16 | here, `clip_tiny` |
# |---|---|---|
# | the names are in `X_attn`, so dropping the residual helps | yes | yes |
# | `X_res` outweighs `X_attn` in the last block | yes | yes |
# | it does so through a few towering channels | yes | **no** |
# | q-q attention finds more than q-k | yes | yes |
# | regions of `X_attn` (q-k) follow the things | yes | **no**: mostly one region, named as the ground |
#
# ## How to go on
#
# * `MODEL = "clip_vitb16"` in the first cell, and `DATA = load("voc20", "data/voc")`.
# * From a terminal: `python -m analysis.maps --model clip_vitb16 --images my/photos --classes "horse, grass, sky"`,
#   `python -m analysis.layers --model clip_vitb16 --dataset voc20:data/voc`, `python -m analysis.featuremaps --model
#   clip_vitb16`.
# * Notebook 2 follows the residual through all layers and compares CLIP with DINO; notebook 4 scales it and takes it
#   apart.
