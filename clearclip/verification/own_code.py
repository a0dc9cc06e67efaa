"""A model's own code beside this package's view on it: nothing may be lost or changed in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clearclip.methods.dense import DenseEncoder
from clearclip.models.backbone import Backbone
from clearclip.models.block import FEATURES, Block
from clearclip.verification.pictures import Missing, Pictures


def encode_image(model: Backbone, images: Tensor) -> Tensor:
    """The embedding of whole images in the text space, by the library's own code where it has one, (B, E)."""
    images = images.to(model.device, model.dtype)
    if hasattr(model.model, "encode_image"):
        return model.model.encode_image(images).float()
    return model.project(final_tokens(model, images))[:, 0].float()


def final_tokens(model: Backbone, images: Tensor) -> Tensor:
    """All tokens after the last norm, as the library's own forward pass gives them, (B, L, D).

    The norm reports what it returns, so that whatever the library pools or drops afterwards is still there.
    """
    seen: list[Tensor] = []
    norm = next(getattr(model.vit, name) for name in ("ln_post", "norm", "post_layernorm") if hasattr(model.vit, name))

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        if output.ndim == 3:  # BLIP's norm also sees the pooled token alone
            seen.append(output)

    handle = norm.register_forward_hook(keep)
    try:
        model(images.to(model.device))
    finally:
        handle.remove()
    if not seen:
        raise Missing("the library norms pooled tokens only")
    return seen[0].float()


def sites(model: Backbone, images: Tensor, see: Callable[[int, dict[str, Tensor]], None]) -> None:
    """Call `see(layer, maps)` with X_res, X_attn and X_sum of each block in turn, (B, L, D), from one forward pass."""
    maps: dict[int, dict[str, Tensor]] = {}

    def take(layer: int, feature: str, x: Tensor) -> None:
        maps.setdefault(layer, {})[feature] = x
        if len(maps[layer]) == len(FEATURES):
            see(layer, maps.pop(layer))

    handles = [hook for layer, block in enumerate(model.blocks, 1) for hook in _hooks(block, layer, take)]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()


def _hooks(block: Block, layer: int, take: Callable[[int, str, Tensor], None]) -> list[Any]:
    handles = []
    for feature in FEATURES:
        module, end = block.site(feature)

        def before(_: nn.Module, args: Any, kwargs: Any, feature: str = feature) -> None:
            take(layer, feature, args[0] if args else kwargs["hidden_states"])

        def after(_: nn.Module, args: Any, output: Any, feature: str = feature) -> None:
            take(layer, feature, output[0] if isinstance(output, tuple) else output)

        handles.append(
            module.register_forward_pre_hook(before, with_kwargs=True)
            if end == "input"
            else module.register_forward_hook(after)
        )
    return handles


def noise(model: Backbone) -> Tensor:
    """One seeded image of noise at the model's own size, (1, 3, S, S)."""
    side = model.image_size
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def identity(model: Backbone, pictures: Pictures) -> list[float]:
    """The largest |X_res + X_attn − X_sum| of all blocks, and how many blocks did not report."""
    worst, layers = [0.0], set()

    def see(layer: int, maps: dict[str, Tensor]) -> None:
        layers.add(layer)
        worst.append((maps["X_res"] + maps["X_attn"] - maps["X_sum"]).abs().max().item())

    sites(model, noise(model), see)
    return [max(worst), float(model.depth - len(layers))]


def library_tokens(model: Backbone, pictures: Pictures) -> list[float]:
    """The largest difference of this package's final tokens and the library's, in units of their standard deviation."""
    images = noise(model)
    library, own = _patches(model, images), model.last_tokens(images)[:, model.prefix_tokens :].float()
    return [((own - library).abs().max() / library.std()).item()]


def library_features(model: Backbone, pictures: Pictures) -> list[float]:
    """The largest difference of the recipe `clip` and the library's own patch tokens, projected and of length 1."""
    if not model.has_projection:
        raise Missing("the model has no text space")
    images = noise(model)
    own = DenseEncoder(model, ["clip"])(images)["clip"]
    library = F.normalize(model.project(_patches(model, images).to(model.dtype)).float(), dim=-1)
    return [(own - library).abs().max().item()]


def _patches(model: Backbone, images: Tensor) -> Tensor:
    """The patch tokens that the library itself hands out, (B, hw, D)."""
    vit, images = model.vit, images.to(model.device, model.dtype)
    if hasattr(vit, "forward_features"):  # timm, whose second norm belongs to the way into the text space
        tokens = vit.forward_features(images)
        tokens = vit.fc_norm(tokens) if model.has_text else tokens
    elif hasattr(vit, "forward_intermediates"):  # open_clip, which takes the CLS token away itself
        states = vit.forward_intermediates(images, indices=1, output_fmt="NLC", normalize_intermediates=True)
        return states["image_intermediates"][-1].float()
    else:  # transformers
        tokens = vit(images).last_hidden_state
    return tokens[:, model.prefix_tokens :].float()
