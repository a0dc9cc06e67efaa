"""Backbone: one view on every supported vision transformer, over the library's own, unmodified model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from clearclip.errors import UserError
from clearclip.models import position
from clearclip.models.block import Block, view

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Weights(NamedTuple):
    """Where a model's numbers come from: a readable name, and the SHA-256 of the file or of the state dict."""

    name: str
    sha256: str
    random: bool = False


class BlockInput(NamedTuple):
    """What a block was called with: X_res (B, L, D) and its rotary position embedding, if the model has one."""

    x: Tensor
    rope: Tensor | None


class _EnoughSeen(Exception):
    """Ends a forward pass once the last wanted block input is there."""


@dataclass
class Backbone:
    """One view on a vision transformer, whatever library it comes from.

    Call it with normalised images (B, 3, H, W), H and W multiples of the patch size, to run the trunk as it is.
    Layers are counted 1 … `depth`, as in the paper. Subclasses say where a library keeps things.
    """

    name: str
    model: Any  # the library's whole model (with the text tower, if it has one)
    weights: Weights
    preprocessing: Any  # the library's own preprocessing configuration of these weights
    precision: str = "fp32"
    architecture: str = ""
    blocks: tuple[Block, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}.")
        self.blocks = tuple(view(module) for module in self._block_modules())

    # where a library keeps things ------------------------------------------------------------------------------------

    @property
    def vit(self) -> Any:
        """The vision transformer inside the model."""
        raise NotImplementedError

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before the patches: CLS, registers, or none."""
        raise NotImplementedError

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        raise NotImplementedError

    @property
    def image_size(self) -> int:
        """The weights' own image size in pixels."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """Channels of the stream, d."""
        raise NotImplementedError

    @property
    def has_projection(self) -> bool:
        """Whether patch tokens can be projected to the space of a text tower."""
        return False

    def _block_modules(self) -> Sequence[nn.Module]:
        raise NotImplementedError

    def _run(self, images: Tensor) -> object:
        raise NotImplementedError

    def final_norm(self, x: Tensor) -> Tensor:
        """The norm after the last block, (B, L, D) → (B, L, D)."""
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        """The visual projection to the text space, (B, L, D) → (B, L, E); raises `UserError` if there is none."""
        raise UserError(
            f"{self.name} has no projection of patch tokens to a text space, so it cannot be asked for names: take a CLIP, or "
            "python -m analysis.prototypes, which needs no text."
        )

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        """The weights' own preprocessing, PIL image → (3, S, S), at their own or another image size."""
        raise NotImplementedError

    # the same for all ------------------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Number of blocks, L."""
        return len(self.blocks)

    @property
    def heads(self) -> int:
        """Attention heads of a block."""
        return self.blocks[-1].heads

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which the model runs: autocast to the chosen precision, nothing for fp32."""
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)

    def __call__(self, images: Tensor) -> None:
        """Run the trunk over normalised images (B, 3, H, W); read it with a probe or with `block_inputs`."""
        self.grid((images.shape[-2], images.shape[-1]))
        with self.autocast():
            self._run(images.to(self.device, non_blocking=True))

    def grid(self, image_size: int | tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows and columns of patches for an image of (height, width) pixels, by default the weights' own size.

        Raises `UserError` naming the nearest sizes that are multiples of the patch.
        """
        size = self.image_size if image_size is None else image_size
        height, width = (size, size) if isinstance(size, int) else size
        p = self.patch_size
        for side in (height, width):
            if side < p or side % p:
                near = max(side // p, 1) * p
                raise UserError(f"{self.name} has {p}-pixel patches, {side} is no multiple: take {near} or {near + p}.")
        return height // p, width // p

    def layers(self, layers: Sequence[int] | None = None) -> tuple[int, ...]:
        """Check layer numbers, counted 1 … depth; all of them for None. Raises `UserError` with the valid range."""
        if layers is None:
            return tuple(range(1, self.depth + 1))
        wrong = [layer for layer in layers if not 1 <= layer <= self.depth]
        if wrong or not layers:
            raise UserError(f"layers {list(wrong)}: {self.name} has layers 1 … {self.depth}, counted as in the paper.")
        return tuple(layers)

    def block_inputs(self, images: Tensor, layers: Sequence[int] | None = None) -> dict[int, BlockInput]:
        """The inputs of some blocks for (B, 3, H, W) images; the pass ends before the last wanted block runs."""
        wanted = self.layers(layers)
        seen: dict[int, BlockInput] = {}
        with _on_block_inputs(self, wanted, seen.__setitem__, stop_at=max(wanted)):
            try:
                self(images)
            except _EnoughSeen:
                return seen
        raise RuntimeError(f"{self.name}: block {max(wanted)} was never reached")

    def last_tokens(self, images: Tensor) -> Tensor:
        """All tokens after the last block and the final norm, (B, 3, H, W) → (B, L, D)."""
        seen = self.block_inputs(images, [self.depth])[self.depth]
        with self.autocast():
            return self.final_norm(self.blocks[-1].forward(seen.x, seen.rope))


@contextmanager
def _on_block_inputs(
    backbone: Backbone, layers: Sequence[int], see: Callable[[int, BlockInput], None], stop_at: int | None = None
) -> Iterator[None]:
    """Inside, `see(layer, input)` is called for each wanted block; `stop_at` ends the pass with `_EnoughSeen`."""

    def hook(layer: int) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            see(layer, BlockInput(args[0] if args else kwargs["hidden_states"], kwargs.get("rope")))
            if layer == stop_at:
                raise _EnoughSeen

        return before

    handles = [
        backbone.blocks[layer - 1].module.register_forward_pre_hook(hook(layer), with_kwargs=True) for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class TimmBackbone(Backbone):
    """A timm vision transformer, standing alone (`vit` is the model)."""

    @property
    def vit(self) -> Any:
        return self.model

    @property
    def prefix_tokens(self) -> int:
        return self.vit.num_prefix_tokens

    @property
    def patch_size(self) -> int:
        return self.vit.patch_embed.patch_size[0]

    @property
    def image_size(self) -> int:
        return self.vit.patch_embed.img_size[0]

    @property
    def width(self) -> int:
        return self.vit.embed_dim

    def _block_modules(self) -> Sequence[nn.Module]:
        if not hasattr(self.vit, "blocks"):
            raise UserError(f"{self.name} ({type(self.vit).__name__}) is no vision transformer with `blocks`.")
        return list(self.vit.blocks)

    def _run(self, images: Tensor) -> object:
        return self.vit.forward_features(images)

    def final_norm(self, x: Tensor) -> Tensor:
        return self.vit.norm(x)

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        from timm.data import create_transform

        config = dict(self.preprocessing)
        if image_size is not None:  # the whole short side is seen, as in the segmentation protocol
            config |= {"input_size": (3, image_size, image_size), "crop_pct": 1.0}
        return create_transform(**config, is_training=False)


@dataclass
class _FixedGridBackbone(Backbone):
    """A tower whose library knows one grid only: for another, it is called with its position embedding resized."""

    _positions: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False)

    def _run_on_grid(self, images: Tensor, name: str) -> object:
        grid = self.grid((images.shape[-2], images.shape[-1]))
        if grid == self.grid():
            return self.vit(images)
        embedding = self.vit.get_parameter(name).detach()  # (1 + N, D), in BLIP (1, 1 + N, D)
        kept = self._positions.get(grid)
        if kept is None or kept.device != embedding.device or kept.dtype != embedding.dtype:
            resized = position.interpolate(embedding.flatten(0, -2), grid)
            self._positions[grid] = resized.reshape(*embedding.shape[:-2], *resized.shape)
        return functional_call(self.vit, {name: self._positions[grid]}, (images,))


@dataclass
class OpenClipBackbone(_FixedGridBackbone):
    """The image tower of an open_clip model in open_clip's own code (OpenAI, LAION, MetaCLIP)."""

    @property
    def vit(self) -> Any:
        return self.model.visual

    @property
    def prefix_tokens(self) -> int:
        return 1

    @property
    def patch_size(self) -> int:
        return self.vit.patch_size[0]

    @property
    def image_size(self) -> int:
        return self.vit.image_size[0]

    @property
    def width(self) -> int:
        return self.vit.conv1.out_channels

    @property
    def has_projection(self) -> bool:
        return self.vit.proj is not None and self.vit.attn_pool is None

    def _block_modules(self) -> Sequence[nn.Module]:
        if not hasattr(self.vit, "transformer"):
            raise UserError(f"{self.name} ({type(self.vit).__name__}) is no vision transformer.")
        return list(self.vit.transformer.resblocks)

    def _run(self, images: Tensor) -> object:
        return self._run_on_grid(images, "positional_embedding")

    def final_norm(self, x: Tensor) -> Tensor:
        return self.vit.ln_post(x)

    def project(self, x: Tensor) -> Tensor:
        return x @ self.vit.proj if self.has_projection else super().project(x)

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        return open_clip_transform(self.preprocessing, image_size)


@dataclass
class OpenClipTimmBackbone(TimmBackbone):
    """The image tower of an open_clip model whose trunk is timm's (SigLIP2, EVA02)."""

    @property
    def vit(self) -> Any:
        return self.model.visual.trunk

    @property
    def image_size(self) -> int:
        return self.model.visual.image_size[0]

    @property
    def has_projection(self) -> bool:
        return True

    def final_norm(self, x: Tensor) -> Tensor:
        return self.vit.fc_norm(self.vit.norm(x))

    def project(self, x: Tensor) -> Tensor:
        if self.vit.attn_pool is not None:  # SigLIP: each patch is pooled as if the picture had no other
            x = self.vit.attn_pool(x.flatten(0, 1)[:, None]).unflatten(0, x.shape[:2])
        return self.model.visual.head(self.vit.head(x))

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        return open_clip_transform(self.preprocessing, image_size)


@dataclass
class BlipBackbone(_FixedGridBackbone):
    """The image tower of a transformers BLIP image-text retrieval model."""

    @property
    def vit(self) -> Any:
        return self.model.vision_model

    @property
    def prefix_tokens(self) -> int:
        return 1

    @property
    def patch_size(self) -> int:
        return self.vit.config.patch_size

    @property
    def image_size(self) -> int:
        return self.vit.config.image_size

    @property
    def width(self) -> int:
        return self.vit.config.hidden_size

    @property
    def has_projection(self) -> bool:
        return True

    def _block_modules(self) -> Sequence[nn.Module]:
        return list(self.vit.encoder.layers)

    def _run(self, images: Tensor) -> object:
        return self._run_on_grid(images, "embeddings.position_embedding")

    def final_norm(self, x: Tensor) -> Tensor:
        return self.vit.post_layernorm(x)

    def project(self, x: Tensor) -> Tensor:
        return self.model.vision_proj(x)

    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        return open_clip_transform(self.preprocessing, image_size)


def open_clip_transform(config: dict[str, Any], image_size: int | None) -> Callable[[Image.Image], Tensor]:
    """open_clip's own evaluation transform of a preprocessing configuration, at its own or another size."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**config | ({} if image_size is None else {"size": image_size})), False)
