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
# # 6 · Who draws the horse?
#
# ClearCLIP takes the last block apart: X_sum = X_res + X_attn. The same algebra goes on. X_res is itself the sum of what every
# earlier head, FFN and bias has written, so the score of a patch for a class is a sum over all of them, exactly. Three questions:
#
# 1. Who draws a class in one picture?
# 2. Which components find places, and which are noise, over many pictures?
# 3. What happens to the map without them?
#
# For the real CLIP change the first line, for pictures and classes of your own the next two.

# %%
from clearclip.datasets import load

MODEL = "clip_tiny"  # the real one: "clip_vitb16"
IMAGES, TEXTS = "scenes", "house, rocket, snow"  # "my/photos", "horse, grass, sky"
DATA = load("scenes", split="test", size=64)  # a benchmark: load("voc20", "data/voc")
LIMIT = 48  # pictures; None for all

# %%
import matplotlib.pyplot as plt

import analysis
import clearclip
from analysis import plots

model = clearclip.load(MODEL)
result = analysis.attribute(model, IMAGES, TEXTS, limit=1)
gap = float(abs(result.attribution.sum("component") - result.score).max())
print(f"{result.sizes['component']} components; their sum is the score, up to {'1e-5' if gap < 1e-5 else gap}")

# %% [markdown]
# ## 1. One picture
#
# Each row is one class. The maps are the score and what all heads, all FFNs and the rest add to it. The bars are about the
# patch with the highest score: what a component adds there, beside what it adds elsewhere on average.

# %%
plots.attribution(result)
plt.show()

# %% [markdown]
# A head's part is a sum over the tokens that it listens to. So it can be told where in the picture the head has it from.

# %%
plots.sources(analysis.attribute(model, IMAGES, TEXTS, limit=1, from_tokens=True))
plt.show()

# %% [markdown]
# ## 2. Many pictures
#
# On the left: how well the map of each component tells where a class is. On the right: what the mIoU gains or loses without it. The
# paper says that the residual is the noise of the last block, and its attention output the signal.

# %%
worth = analysis.worth(model, DATA, limit=LIMIT, progress=False)
plots.components(worth)
plt.show()

# %%
change = (worth.miou_without - worth.miou_whole).squeeze(drop=True).reset_coords(drop=True).to_series()
print(f"mIoU over patches of the whole: {worth.miou_whole.item():.1f} %")
print("noise:  ", ", ".join(f"{name} {value:+.1f}" for name, value in change.nlargest(4).items()))
print("of use: ", ", ".join(f"{name} {value:+.1f}" for name, value in change.nsmallest(4).items()))

# %% [markdown]
# ## 3. Without them
#
# These numbers leave the rest of the model as it is. An intervention switches a component off while the model runs, so later layers
# react. The FFN of a layer is switched off with all its neurons; the residual of the last block is what ClearCLIP leaves out.

# %%
from clearclip.interventions import Heads, Neurons, intervene

last = model.depth
neurons = tuple(range(model.blocks[last - 2].ffn_writer.module.in_features))
heads = tuple(range(1, model.blocks[-1].heads + 1))
views = {
    "as it is": model,
    f"without the FFN of layer {last - 1}": intervene(model, Neurons(last - 1, neurons)),
    f"without the heads of layer {last}": intervene(model, Heads(last, heads)),
}
for name, view in views.items():
    scores = clearclip.evaluate(view, DATA, ["clip"], limit=LIMIT, progress=False)
    print(f"{name:30} mIoU {scores.miou.item():.1f} %")
cleared = clearclip.evaluate(model, DATA, ["clearclip"], limit=LIMIT, progress=False)
print(f"{'clearclip':30} mIoU {cleared.miou.item():.1f} %")

# %% [markdown]
# Where a part of the stream is noise, leaving it out helps. Where the last block's heads carry the place, nothing is left
# without them. ClearCLIP draws the conclusion in one step: it keeps those heads and leaves out everything else.
