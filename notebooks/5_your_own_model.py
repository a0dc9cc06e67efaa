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
# # 5 · Your own model
#
# Everything in the other notebooks works for what *you* bring: a model, a checkpoint, a recipe, a statistic, a data
# set. Each is a line or two; none needs a change in the package. Without a network a model has no trained weights, so
# the first one below has random weights, and every figure says so. With a network change the first line of the next
# cell.

# %%
MODEL, RANDOM = "timm:vit_tiny_patch16_224", True  # real weights: "timm:vit_small_patch14_dinov2.lvd142m", False
CLIP = "clip_tiny"  # or "open_clip:ViT-B-16-quickgelu/openai", whose short name is "clip_vitb16"
PICTURES = "photographs"  # scikit-image's; your own: "my/photos"

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import analysis
import clearclip
from analysis import plots
from analysis.probes import store
from clearclip.datasets import Sample, load, parse

folder = Path(tempfile.mkdtemp())  # for the files that this notebook writes

# %% [markdown]
# ## A model by its name in timm or open_clip
#
# Short names such as `dino_vitb16` stand for the models of the paper and its kin. Any other pre-norm vision transformer
# is `timm:<arch.tag>` or `open_clip:<arch>/<tag>`. The model is the library's own, unmodified.

# %%
mine = clearclip.load(MODEL, random=RANDOM)
print(f"{mine.name}: {mine.depth} blocks, {mine.width} channels, patches of {mine.patch_size} pixels")
print(
    f"weights: {mine.weights.name}; {mine.prefix_tokens} token(s) before the patches; CLIP-like: {mine.has_projection}"
)

# %% [markdown]
# A name that does not exist is answered with the closest ones.

# %%
try:
    clearclip.load("dino_vitb61")
except clearclip.UserError as error:
    print(error)

# %% [markdown]
# ## Your model in the paper's Fig. 4
#
# `collect` measures, `merge_models` puts several models into one Dataset, and `plots.entropy` draws it. Layers, widths and picture
# sizes may differ.

# %%
parts = [
    analysis.collect(model, PICTURES, ["entropy", "maximum"], limit=6, batch_size=2, progress=False)
    for model in (clearclip.load("clip_tiny"), clearclip.load("dino_tiny"), mine)
]
plots.entropy(store.merge_models(parts))
plt.show()

# %% [markdown]
# ## A checkpoint
#
# A file in the library's own key layout, safetensors or a weights-only `.pt`, replaces the hub's weights. Here we write
# one ourselves; the loaded model has the same weights and is no longer "random", because a file says what it is.

# %%
torch.save(mine.model.state_dict(), folder / "mine.pt")
again = clearclip.load(MODEL, checkpoint=folder / "mine.pt")
pixels = torch.zeros(1, 3, mine.image_size, mine.image_size)
print("the same output:", torch.equal(again.last_tokens(pixels), mine.last_tokens(pixels)))
print("random:", again.weights.random)

# %% [markdown]
# A file that does not fit is refused, with the names of what is missing and what is too much.

# %%
state = mine.model.state_dict()
state["blocks.0.surprise"] = state.pop("norm.weight")
torch.save(state, folder / "wrong.pt")
try:
    clearclip.load(MODEL, checkpoint=folder / "wrong.pt")
except clearclip.UserError as error:
    print(str(error).replace(f"{folder}/", ""))

# %% [markdown]
# ## A statistic
#
# A statistic is a function of one batch of maps, (pictures, tokens, channels) → (pictures), with a name and a unit. It
# runs inside the forward pass, on all maps, beside the built-in ones. Kurtosis says whether a few entries are far
# larger than the others: 3 for a normal distribution, more with heavy tails.


# %%
def kurtosis(x: torch.Tensor) -> torch.Tensor:
    """The fourth standardised moment of all entries, one number per picture."""
    centred = x.float() - x.float().mean((-2, -1), keepdim=True)
    return (centred**4).mean((-2, -1)) / (centred**2).mean((-2, -1)) ** 2


tails = {"kurtosis": analysis.Statistic(kurtosis, "kurtosis of all entries", "1")}
pair = [
    analysis.collect(clearclip.load(name), "scenes", tails, limit=24, progress=False)
    for name in ("clip_tiny", "dino_tiny")
]
both = store.merge_models(pair)
plots.layer_lines(both, variable="kurtosis", scale="log")
plt.show()

# %%
means = both.kurtosis.sel(tokens="patches", layer=[1, 3, 6]).mean("image").reset_coords(drop=True)
means.stack(column=("model", "feature")).to_pandas().round(1)

# %% [markdown]
# **What one sees.** The small DINO stays near 3, and so does `X_attn` of both. The small CLIP's residual has heavy tails
# in the first block and loses most of them later, where its entropy is low because the residual grows as a whole.
# A statistic of your own can tell two explanations apart. **Different from the paper's CLIP**, no few towering entries are
# left in the last block.

# %% [markdown]
# ## A recipe
#
# A recipe says what the last block does; see `clearclip/methods/recipes.py` for all knobs. `variant` turns some of them and
# makes a name.

# %%
clip = clearclip.load(CLIP)
scenes = load("scenes", split="test", size=64)
base = clearclip.Recipe("vv", affinity="vv", ffn=False)
recipes = [
    "clip",
    "clearclip",
    base,
    base.variant(alpha=2.0),
    base.variant(alpha=2.0, beta=0.05),
    base.variant(stream=4),
]
scored = clearclip.evaluate(clip, scenes, recipes, limit=24, progress=False)
clearclip.table(scored).round(1)

# %% [markdown]
# mIoU in percent. On the small CLIP `clearclip`, which drops the residual, is far ahead of what keeps it, as the paper
# reports for real CLIPs. v-v attention gains from more weight (`alpha`) or from more blocks beside the residual (`stream`).
#
# ## A data set
#
# A folder with `images/`, `labels/` (PNG, one class index per pixel, same names) and `classes.txt` is a data set, on
# every command line too.

# %%
own = folder / "my_pictures"
for part in ("images", "labels"):
    (own / part).mkdir(parents=True)
for i in range(6):
    sample = scenes[i]
    sample.image.save(own / "images" / f"{i}.png")
    Image.fromarray(sample.label.astype(np.uint8)).save(own / "labels" / f"{i}.png")
(own / "classes.txt").write_text("\n".join(scenes.classes))

dataset = parse(str(own))
print(dataset.name, len(dataset), "pictures,", len(dataset.classes), "classes")
clearclip.table(clearclip.evaluate(clip, dataset, ["clip", "sclip", "clearclip"], progress=False)).round(1)

# %% [markdown]
# Or anything in Python with a length, items, classes and an `identity` that changes when the data do. Here the same
# scenes at dusk: how much light does the model need?


# %%
class Dusk:
    """The drawn scenes with a part of their light."""

    name, classes, ignore_index = "dusk", scenes.classes, 255

    def __init__(self, light: float) -> None:
        self.light, self.identity = light, f"{scenes.identity} with light {light}"

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Sample:
        sample = scenes[index]
        return sample._replace(image=sample.image.point(lambda value: value * self.light))


for light in (1.0, 0.5, 0.25):
    scored = clearclip.evaluate(clip, Dusk(light), ["clip", "sclip"], progress=False)
    print(
        f"light {light:4.0%}: " + ", ".join(f"{r.item()} {scored.miou.sel(recipe=r).item():.1f}" for r in scored.recipe)
    )

# %% [markdown]
# ## How to go on
#
# * The same from a terminal: `python -m analysis.entropy --model clip_vitb16 timm:vit_small_patch14_dinov2.lvd142m
#   --images my/photos`, `python -m clearclip.evaluate --model clip_vitb16 --dataset data/my_pictures`.
# * `result.to_netcdf("mine.nc", engine="h5netcdf")` keeps a Dataset, and `python -m analysis.entropy --data mine.nc`
#   draws it again.
# * Notebook 2 explains every statistic, notebook 4 every knob.
