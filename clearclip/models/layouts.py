"""The key layouts of checkpoints that people have, each known by one key that only it has.

What timm and open_clip convert themselves is left to them (`Plan.convert`). The tables below rename the keys of transformers,
for which neither has a converter, to those of OpenAI, of DINO, or of open_clip.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor

from clearclip.errors import UserError

State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]  # patterns and what takes their place, applied in order


class Tower(NamedTuple):
    """A part of a layout: what stands before its keys, what stands there afterwards, and how the rest is renamed."""

    prefix: str
    becomes: str
    rules: Rules = ()


class Layout(NamedTuple):
    """A layout of keys.

    Args:
        key: a key of the image tower that only this layout has.
        towers: the image tower first; a key belongs to the first whose prefix it has.
        transposed: the renamed keys of matrices that the other layout keeps transposed.
        alone: whether the key also tells an image tower that was saved alone, without its prefix.
    """

    key: str
    towers: tuple[Tower, ...]
    transposed: tuple[str, ...] = ()
    alone: bool = True


OPEN_CLIP: Rules = (
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^embeddings\.patch_embedding\.", "conv1."),
    (r"^embeddings\.", ""),
    (r"^pre_layrnorm", "ln_pre"),  # spelt so in transformers
    (r"^post_layernorm", "ln_post"),
    (r"^final_layer_norm", "ln_final"),
    (r"^head\.", "text_projection."),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"self_attn\.", "attn."),
    (r"layer_norm([12])", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
)
SIGLIP: Rules = (
    (r"^embeddings\.position_embedding\.weight", "pos_embed"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^post_layernorm", "norm"),
    (r"^head\.probe", "attn_pool.latent"),
    (r"^head\.attention\.in_proj_", "attn_pool.qkv."),
    (r"^head\.attention\.out_proj", "attn_pool.proj"),
    (r"^head\.layernorm", "attn_pool.norm"),
    (r"^head\.", "attn_pool."),
    (r"^encoder\.layers\.", "blocks."),
    (r"self_attn\.out_proj", "attn.proj"),
    (r"self_attn\.", "attn."),
    (r"layer_norm([12])", r"norm\1"),
)
DINO: Rules = (
    (r"^embeddings\.position_embeddings", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^embeddings\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^(?:encoder\.)?layers?\.", "blocks."),
    (r"attention\.attention\.([qkv])(?:uery|ey|alue)\.", r"attn.\1_proj."),
    (r"attention\.([qkv]_proj)", r"attn.\1"),
    (r"attention\.(?:output\.dense|o_proj)", "attn.proj"),
    (r"layernorm_before", "norm1"),
    (r"layernorm_after", "norm2"),
    (r"layer_scale([12])\.lambda1", r"ls\1.gamma"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"output\.dense", "mlp.fc2"),
    (r"mlp\.weights_in", "mlp.w12"),
    (r"mlp\.weights_out", "mlp.w3"),
)

LAYOUTS = {
    "transformers' CLIP": Layout(
        "pre_layrnorm.weight",
        (
            Tower("vision_model.", "visual.", OPEN_CLIP),
            Tower("text_model.", "", OPEN_CLIP),
            Tower(
                "",
                "",
                ((r"^visual_projection\.weight", "visual.proj"), (r"^text_projection\.weight", "text_projection")),
            ),
        ),
        ("visual.proj", "text_projection"),
    ),
    "transformers' SigLIP": Layout(
        "embeddings.patch_embedding.bias",
        (Tower("vision_model.", "visual.trunk.", SIGLIP), Tower("text_model.", "text.", OPEN_CLIP), Tower("", "")),
    ),
    "transformers' DINO, DINOv2, MAE or ViT": Layout(
        "embeddings.patch_embeddings.projection.weight", (Tower("", "", DINO),)
    ),
    "OpenAI's or open_clip's CLIP": Layout("ln_pre.weight", (Tower("visual.", "visual."), Tower("", ""))),
    "open_clip's with a trunk of timm": Layout(
        "patch_embed.proj.weight", (Tower("visual.trunk.", "visual.trunk."), Tower("", "")), alone=False
    ),
    "timm's, DINO's, DINOv2's or MAE's": Layout(
        "patch_embed.proj.weight",
        (Tower("", "", ((r"^blocks\.\d+\.(?=\d+\.)", "blocks."),)),),  # DINOv2 trains in chunks
    ),
}


def known(state: State) -> tuple[str, str] | None:
    """The layout of some keys, by its title, and what stands before all of its keys; None if it is not known.

    Raises:
        UserError: the keys are those of several models.

    >>> import torch
    >>> known({"module.backbone.patch_embed.proj.weight": torch.zeros(2, 3, 8, 8)})
    ("timm's, DINO's, DINOv2's or MAE's", 'module.backbone.')
    """
    for title, layout in LAYOUTS.items():
        tower = layout.towers[0].prefix
        for key in (tower + layout.key, layout.key) if layout.alone else (tower + layout.key,):
            roots = [root for root in state if root == key or root.endswith(f".{key}")]
            prefixes = [root.removesuffix(key) for root in roots]
            if len(prefixes) > 1:
                prefixes = [prefix for prefix in prefixes if "teacher" in prefix] or prefixes
            if len(prefixes) > 1:
                raise UserError(f"it holds several models, below {', '.join(prefixes)}: keep the keys of one of them.")
            if prefixes:
                return title, prefixes[0]
    return None


def renamed(state: State, title: str) -> State:
    """Tensors under the keys that the model, or its library's converter, takes.

    Args:
        state: without what stands before all keys; it may be an image tower alone.
        title: of its layout.
    """
    layout = LAYOUTS[title]
    tower = layout.towers[0]
    if not any(key.startswith(tower.prefix) for key in state):
        state = {tower.prefix + key: value for key, value in state.items()}
    new: State = {}
    for key, value in state.items():
        prefix, becomes, rules = next(part for part in layout.towers if key.startswith(part.prefix))
        name = key.removeprefix(prefix)
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        name = becomes + name
        new[name] = value.T if name in layout.transposed else value
    return new
