# %% [markdown]
# # ClearCLIP in three lines
#
# Name a picture and the classes; the recipe decides what the last block of the CLIP does. With a network, change the first
# line to `clearclip.load("clip_vitb16")` and `photo` to a picture of your own. The small CLIP used here comes with the package
# and knows drawn scenes only.

# %%
import clearclip
from clearclip.datasets.scenes import Scenes
from clearclip.overlay import side_by_side

scenes = Scenes("test", count=3, size=192)
photo = scenes[0].image

# %%
model = clearclip.load("clip_tiny")
segmenter = clearclip.Segmenter(model, scenes.classes, recipe="sclip")
result = segmenter(photo)

# %% [markdown]
# The result holds labels, scores of every class, and a figure.

# %%
print(result.labels.shape, result.scores.shape, result.recipe, "on", result.model)
print({name: round(share, 2) for name, share in result.shares.items() if share > 0.02})
result.figure()

# %% [markdown]
# Several recipes cost one pass through the model. Side by side with the true labels they show what the last block changes
# (paper Fig. 7).

# %%
several = clearclip.Segmenter(model, scenes.classes, recipe=["clip", "maskclip", "sclip", "clip_surgery", "clearclip"])
drawn = [scenes[i] for i in range(3)]
side_by_side(several.each([sample.image for sample in drawn]), truth=[sample.label for sample in drawn])

# %% [markdown]
# A recipe of your own is one line of data.

# %%
mine = clearclip.Recipe("mine", affinity="0.5*qq + 0.5*vv", alpha=2.0, ffn=False)
clearclip.Segmenter(model, scenes.classes, recipe=mine)(photo).figure()
