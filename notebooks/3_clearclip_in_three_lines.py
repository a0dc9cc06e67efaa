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
# # 3 · ClearCLIP in three lines
#
# A picture, the names of what may be in it, and a recipe for the last block of a CLIP: that is all that open-vocabulary
# segmentation without training needs. For the real CLIP change the first line of the next cell, for your own picture
# the second, for your own classes the third.

# %%
from clearclip.datasets import load

MODEL = "clip_tiny"  # the real one: "clip_vitb16"
PHOTO = load("scenes", split="test", size=128)[4].image  # your own: "photo.jpg"
CLASSES = load("scenes").classes  # all that are drawn; your own: "horse|pony, grass, sky"

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import clearclip
from clearclip.segmentation.result import side_by_side

# %% [markdown]
# ## The three lines

# %%
model = clearclip.load(MODEL)
segmenter = clearclip.Segmenter(model, CLASSES, recipe="clearclip")
result = segmenter(PHOTO)

# %% [markdown]
# The result holds the class of every pixel, the score of every class at every pixel, the share of the picture that each
# class covers, and draws itself.

# %%
print("labels", result.labels.shape, "scores", result.scores.shape, "by", result.recipe, "on", result.model)
print({name: f"{100 * share:.1f} %" for name, share in result.shares.items() if share > 0.01})
result.figure()
plt.show()

# %% [markdown]
# **What one sees.** With `clip_tiny` the sand gets its name, and so do parts of the mushroom, the flower and the rocket.
# The duck is taken for sand. A method is judged beside others, so:
#
# ## The recipes side by side
#
# A recipe is a line of data that says what the last block does. All recipes of a `Segmenter` share one pass through the
# model.

# %%
RECIPES = ["clip", "maskclip", "sclip", "clip_surgery", "clearclip"]
recipes = [clearclip.RECIPES[name] for name in RECIPES]
pd.DataFrame(
    [{"attention": r.affinity, "residual": r.residual, "FFN": r.ffn, "blocks": r.stream} for r in recipes],
    index=RECIPES,
)

# %%
several = clearclip.Segmenter(model, CLASSES, recipe=RECIPES)
side_by_side(several.each([PHOTO]))
plt.show()

# %% [markdown]
# On pictures with known labels, here drawn scenes, the same call gives the paper's Fig. 7, with the true labels in the
# second column.

# %%
scenes = load("scenes", split="test", size=128)
samples = [scenes[i] for i in (0, 3)]
results = clearclip.Segmenter(model, scenes.classes, recipe=RECIPES).each([sample.image for sample in samples])
side_by_side(results, truth=[sample.label for sample in samples])
plt.show()

# %%
right = [
    {name: 100 * np.mean(result.labels == sample.label) for name, result in by_recipe.items()}
    for by_recipe, sample in zip(results, samples, strict=True)
]
pd.DataFrame(right, index=[f"scene {i}" for i in (0, 3)]).rename_axis("pixels right, %").round(1)

# %% [markdown]
# **In the small model** the recipes that keep the residual (`clip`, `maskclip`, `sclip`) lose the ground or most of the
# things. `clearclip`, which drops the residual, names both, and so does `clip_surgery`, which lets v-v attention run over
# all blocks beside the untouched stream. **The paper's** Table 2 has ClearCLIP ahead of the others on real CLIPs.
#
# **Different from the paper:** on the drawn scenes plain values (`maskclip+clearclip`) are better still than q-q
# attention; notebook 4 measures it.
#
# ## One class, several names
#
# Names of one class are joined with `|`; the best of them counts. With a class `background` and a threshold, pixels
# that resemble none of your names become background; `"auto"` finds the threshold for each picture and says how.

# %%
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the small model says that it has never learnt the word "background"
    three = clearclip.Segmenter(
        model, "duck, flower|mushroom, rocket", recipe="clip_surgery", background=True, threshold="auto"
    )
result = three(PHOTO)
print(result.classes)
print({name: f"{100 * share:.1f} %" for name, share in result.shares.items()})
print(f"threshold {result.threshold}")
result.figure()
plt.show()

# %% [markdown]
# The small model has never learnt the word "background", and it shows: nearly all of the sand is taken for a flower or a
# mushroom. Such a class needs a model that knows more than the words it is asked for.
#
# ## A recipe of your own
#
# The knobs of a recipe are the questions of the paper: which attention (`affinity`, a weighted sum of products), with
# or without `residual` and `ffn`, how strong (`alpha`), which share of the residual's channels to cut (`beta`), over
# how many blocks (`stream`), which layer is read (`layer`).

# %%
mine = clearclip.Recipe("mine", affinity="0.5*qq + 0.5*vv", alpha=2.0, ffn=False)
earlier = clearclip.Recipe("one block earlier", affinity="qk", residual=False, ffn=False, layer=model.depth - 1)
side_by_side(clearclip.Segmenter(model, CLASSES, recipe=["clip", mine, earlier]).each([PHOTO]))
plt.show()

# %% [markdown]
# `mine` strengthens the attention output and keeps the residual: more of the things get their names, but not the sand.
# The last column drops the residual as ClearCLIP does, but reads the block before the last. There the sand keeps its
# name and the things have none. That is luck: over many pictures this block's attention output names next to nothing
# (notebook 1, "Which layer speaks the language of the text?").
#
# ## How to go on
#
# * `MODEL = "clip_vitb16"`, `PHOTO = "photo.jpg"`, `CLASSES = "horse|pony, grass, sky"` in the first cell.
# * `result.save("results", "photo")` writes labels as PNG, scores as `.npz` and the figure.
# * From a terminal: `python -m clearclip.segment photo.jpg --classes "horse, grass, sky" --model clip_vitb16 --compare
#   clip maskclip sclip clearclip`.
# * Notebook 4 turns the knobs one by one and measures; notebook 5 adds models, recipes and data sets.
