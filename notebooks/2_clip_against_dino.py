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
# # 2 · CLIP against DINO, layer by layer
#
# Notebook 1 found that the residual decides what the last block of a CLIP says. Is that the fate of every vision
# transformer, or of this kind of training? The paper compares two models of the same shape: CLIP, trained with
# sentences, and DINO, trained with pictures alone (Fig. 4). Here it is two small models of one shape, trained on the
# same drawn scenes.
#
# Every statistic is computed for each picture, inside the forward pass, at the three sites of every block (`X_res`,
# `X_attn`, `X_sum`), and then averaged over the pictures. For the real pair change the first line of the next cell.

# %%
MODEL, AGAINST = "clip_tiny", "dino_tiny"  # the paper's pair: "clip_vitb16", "dino_vitb16"
PICTURES, LIMIT = "scenes", 32  # your own: "my/photos", None

# %%
import matplotlib.pyplot as plt
import pandas as pd

import analysis
import clearclip
from analysis import plots
from analysis.probes import store
from analysis.probes.images import pictures

images = pictures(PICTURES, LIMIT)
models = [clearclip.load(name) for name in (MODEL, AGAINST)]
parts = [analysis.collect(model, images, list(analysis.STATISTICS), progress=False) for model in models]
result = store.merge_models(parts)
print({name: size for name, size in result.sizes.items() if name not in ("channel", "token")})

# %%
SOME = [result.layer.values.tolist()[i] for i in (0, 1, len(result.layer) // 2, -1)]


def means(statistic: str, digits: int) -> pd.DataFrame:
    """Mean over the pictures at some layers, on patch tokens."""
    values = result[statistic].sel(tokens="patches", layer=SOME).mean("image")
    return values.stack(column=("model", "feature")).reset_coords(drop=True).to_pandas().round(digits)


# %% [markdown]
# ## How evenly are the values spread?
#
# The normalised entropy (paper eq. 5) takes the softmax over *all* entries of one map. A map of equal entries has 1;
# one that is ruled by a single entry has 0.

# %%
plots.entropy(result)
plt.show()

# %%
means("entropy", 2)

# %% [markdown]
# **What one sees.** In the small CLIP the entropy of `X_res` and `X_sum` collapses, in the small DINO it hardly changes.
# **The paper** reports the same contrast for the real pair: in CLIP-B/16 the entropy of `X_res` falls to about 0, in
# DINO-B/16 it stays nearly constant.
#
# **Different from the paper:** the small CLIP's entropy falls in the first block already, not from the middle layers on,
# and its `X_attn` loses some, too. A low entropy is also no sign that the residual hurts: `docs/residual.md` has small
# CLIPs with low entropy whose residual is the better map.
#
# ## How large does the largest entry become?
#
# A softmax is ruled by its largest entries, so the second look is at the maximum.

# %%
plots.maxima(result)
plt.show()

# %%
largest = result.maximum.sel(tokens="patches", feature="X_res").mean("image")
growth = largest.isel(layer=-1) / largest.isel(layer=0)
print("largest entry of X_res, last layer over first:")
print("\n".join(f"  {name}: {ratio:.1f}" for name, ratio in zip(result.model.values, growth.values, strict=True)))

# %% [markdown]
# **The paper** finds a factor of about 90 in the real CLIP, carried by a few channels, and maxima mostly under 10 in
# the real DINO. The small DINO stays under 10 as well. **Different from the paper:** the small CLIP's maximum grows by
# far less than 90 times.
#
# ## Is the map carried by a few channels?
#
# The mean of every channel over the tokens, normalised from 0 to 1 in each picture and sorted (Fig. 4c). A line that
# hugs the middle and bends up sharply at the right end means that a few channels are far above all others.

# %%
plots.channels(result)
plt.show()

# %%
means("channel_dominance", 2)

# %% [markdown]
# The table has the share of the absolute mass in the five strongest channels; if all channels were alike it would be 5
# divided by their number, 0.05 for the 96 channels of the small models. **What one sees.** It is two to four times that
# in the small CLIP, most in the first block, and a little more than twice that in the small DINO. **Different from the
# paper:** no few channels carry the small CLIP's last map, as they do in the real one; its whole stream grows.
#
# ## How strong are residual and attention output beside each other?
#
# The Frobenius norm (the bars of Fig. 2, here for every layer) says who decides the sum.

# %%
plots.norms(result)
plt.show()

# %%
sizes = result.frobenius_norm.sel(tokens="patches").mean("image")
ratio = (sizes.sel(feature="X_res") / sizes.sel(feature="X_attn")).reset_coords(drop=True)
ratio.sel(layer=SOME).transpose("layer", "model").to_pandas().round(1)

# %% [markdown]
# The table gives ‖X_res‖ / ‖X_attn‖ in four layers. The residual outweighs the attention output in both models, somewhat
# more in the CLIP. The DINO's residual stays even all the same, so an imbalance alone is not what makes it uneven.
#
# ## Do tokens stand out?
#
# Beyond the paper: large models hide notes in a few tokens of no interest ("registers"). Here are the largest token
# norm over the median, the share of tokens over three times the median, the effective rank, the mean cosine between
# tokens, and a map of the norms.

# %%
plots.tokens(result)
plt.show()

# %%
means("mean_cosine", 2)

# %% [markdown]
# **What one sees.** The tokens of the small CLIP's last `X_attn` say nearly the same everywhere (a mean cosine close to
# 1), and what differs from place to place is a small remainder. Those of the small DINO differ more. **Different from
# large real models:** no token of the residual stands out; small models leave nothing to hide in.
#
# ## Is it the training, or the shape?
#
# The control that a single model cannot give: the same two shapes with random weights.

# %%
untrained = [
    analysis.collect(clearclip.load(name, random=True), images, ["entropy", "maximum"], progress=False)
    for name in (MODEL, AGAINST)
]
rows = {}
for training, results in (("trained", parts), ("random weights", untrained)):
    for measured in results:
        last = measured.sel(tokens="patches", feature="X_res").isel(layer=-1)
        rows[measured.model.item(), training] = {
            "entropy of the last X_res": last.entropy.mean().item(),
            "maximum of the last X_res": last.maximum.mean().item(),
        }
pd.DataFrame(rows).T.sort_index(level=0, sort_remaining=False).round(2)

# %% [markdown]
# **What one sees.** Without training the two are close to each other. Training takes the CLIP far away from there and
# the DINO hardly. Honesty demands a limit: the two small models were not trained equally long, and the DINO's large
# weight decay is what keeps its curves flat. Their cards in `clearclip/zoo/weights` say what each has learnt.
#
# ## What to take home
#
# The contrast of the paper's Fig. 4 is there in models that are far smaller: the CLIP's residual becomes uneven, the
# DINO's stays even. What is not there are the outliers: nothing here falls to 0 or grows 90-fold.
#
# ## How to go on
#
# * `MODEL, AGAINST = "clip_vitb16", "dino_vitb16"` in the first cell; any two names of models work.
# * From a terminal, resumable and for thousands of pictures: `python -m analysis.entropy --model clip_vitb16
#   dino_vitb16 --images my/photos`, likewise `analysis.maxima`, `analysis.channels`, `analysis.norms`,
#   `analysis.tokens`.
# * Notebook 5 puts your own model into the first figure.
