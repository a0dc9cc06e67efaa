"""Backbone: one view on every supported vision transformer, over the library's own, unmodified model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from clearclip.errors import UserError, refuse_repeated
from clearclip.models import card
from clearclip.models.block import Block
from clearclip.models.weights import LiveWeights, Weights

POSITIONS = ("authors", "timm")  # whose way of bringing a position embedding to another grid
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class BlockInput(NamedTuple):
    """What a block was called with: X_res (B, L, D) and its rotary position embedding, if the model has one."""

    x: Tensor
    rope: Tensor | None


class Plan(NamedTuple):
    """How a library makes one architecture; known without building it.

    Args:
        build: makes the library's whole model, with trained weights if called with True, else with untrained ones.
        backbone: the view that fits the model.
        preprocessing: the preprocessing configuration that belongs to the weights of a model made by `build`.
        weights: what the trained weights are called in results.
        check: raises `UserError` if trained weights do not fit the architecture.
        shipped: whether the weights come with the package, so that no hub is asked for them.
        convert: the library's own conversion of other layouts to that of a model made by `build`.
        twin: the same architecture with GELU in place of QuickGELU, or the other way round, if there is one.
    """

    build: Callable[[bool], nn.Module]
    backbone: type[Backbone]
    preprocessing: Callable[[Any], dict[str, Any]]
    weights: str
    check: Callable[[], None] = lambda: None
    shipped: bool = False
    convert: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] = lambda model, state: state
    twin: str | None = None


class Live(NamedTuple):
    """What a library knows about a live module of its own.

    Args:
        backbone: the view that fits the module.
        name: what the library calls the architecture, as far as the module tells.
        preprocessing: the preprocessing configuration that the module carries; None if it carries none.
        complete: completes a configuration that somebody gives instead; `mean` and `std` are enough.
    """

    backbone: type[Backbone]
    name: str
    preprocessing: Mapping[str, Any] | None
    complete: Callable[[Mapping[str, Any]], dict[str, Any]]


class _EnoughSeen(Exception):
    """Ends a forward pass once the last wanted block input is there."""


@dataclass(repr=False)
class Backbone(ABC):
    """One view on a vision transformer, whatever library it comes from; subclasses say where a library keeps things.

    Layers are counted 1 … `depth`, as in the paper.

    Args:
        name: the name it was asked for, used in messages and results.
        model: the library's whole model, with the text tower if it has one.
        weights: where its numbers come from.
        preprocessing: the library's own preprocessing configuration of these weights, with `mean` and `std`.
        precision: fp32; bf16 or fp16, for autocast over float32 weights or as the type of the weights themselves.
        architecture: the full name, `library:name`.
        positions: how a position embedding is brought to other grids, "authors" or "timm"; see `resizing`.

    Raises:
        UserError: the precision or `positions` is unknown, or the model is not a pre-norm vision transformer.

    >>> import clearclip
    >>> model = clearclip.load("clip_tiny", random=True, device="cpu")
    >>> inputs = model.block_inputs(torch.zeros(2, 3, 64, 48), layers=[1, 6])
    >>> sorted(inputs), inputs[6].x.shape, model.grid((64, 48))
    ([1, 6], torch.Size([2, 49, 96]), (8, 6))
    """

    name: str
    model: Any
    weights: Weights | LiveWeights
    preprocessing: Any
    precision: str = "fp32"
    architecture: str = ""
    positions: str = "authors"
    blocks: tuple[Block, ...] = field(init=False)

    has_text: ClassVar[bool] = False  # whether the model has a text tower

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}.")
        if self.positions not in POSITIONS:
            raise UserError(f"positions {self.positions!r}: choose one of {', '.join(POSITIONS)}.")
        self.blocks = tuple(self._blocks())

    def __repr__(self) -> str:
        return card.line(self.name, self._facts())

    def _repr_html_(self) -> str:
        return card.html(self.name, self._facts())

    def _facts(self) -> dict[str, str]:
        """What one wants to know of a model at a glance."""
        rows, columns = self.grid()
        return {
            "architecture": self.architecture,
            "depth × width": f"{self.depth} × {self.width}",
            "heads": str(self.heads),
            "patches": f"{rows} × {columns} of {self.patch_size} px",
            "prefix tokens": str(self.prefix_tokens),
            "weights": "RANDOM" if self.weights.random else self.weights.name,
            "precision": f"{self.precision} on {self.device}",
        }

    # where a library keeps things ------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def vit(self) -> Any:
        """The vision transformer inside the model."""

    @property
    @abstractmethod
    def prefix_tokens(self) -> int:
        """How many tokens stand before the patches: CLS, registers, or none."""

    @property
    @abstractmethod
    def patch_size(self) -> int:
        """Side of a patch in pixels."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """The weights' own image size in pixels."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of the stream, D."""

    @abstractmethod
    def _blocks(self) -> Sequence[Block]:
        """The views on the model's blocks, first to last."""

    @abstractmethod
    def _run(self, images: Tensor) -> object:
        """Run the trunk over (B, 3, H, W)."""

    @property
    @abstractmethod
    def final_norms(self) -> Sequence[nn.Module]:
        """The norms after the last block, in their order; modules that do nothing may be among them."""

    @abstractmethod
    def transform(self, image_size: int | None = None) -> Callable[[Image.Image], Tensor]:
        """The weights' own preprocessing.

        Args:
            image_size: S in pixels, by default the weights' own.

        Returns:
            A function from a PIL image to a tensor (3, S, S).
        """

    # what only some have ---------------------------------------------------------------------------------------------

    @property
    def has_projection(self) -> bool:
        """Whether patch tokens can be projected to the space of a text tower."""
        return False

    def project(self, x: Tensor) -> Tensor:
        """The visual projection to the text space, (B, L, D) → (B, L, E).

        Raises:
            UserError: the model has no such projection.
        """
        raise UserError(
            f"{self.name} has no projection of patch tokens to a text space, so it cannot be asked for names: take a CLIP, or "
            "python -m analysis.prototypes, which needs no text."
        )

    def project_linearly(self, x: Tensor) -> Tensor:
        """What of `project` is linear in x, with its constant, (B, L, D) → (B, L, E): all of it, but for pools with an FFN."""
        return self.project(x)

    def resized(self, way: str) -> Backbone:
        """The same model with its position embedding resized in another way.

        Args:
            way: one of `clearclip.models.position.WAYS`; empty for the model as it is.

        Raises:
            UserError: the model's library resizes for itself.
        """
        if not way:
            return self
        raise UserError(
            f"resize_positions {way}: {self.name} has its positions resized by its own library; leave it out."
        )

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The text tower's embeddings, not yet of length 1.

        Args:
            texts: N whole prompts.

        Returns:
            (N, E).

        Raises:
            UserError: the model has no text tower, or its tokenizer cannot be had.
        """
        raise UserError(f"{self.name} has no text tower, so it cannot name classes: take a CLIP, such as clip_vitb16.")

    def untrained(self, names: Sequence[str]) -> list[str]:
        """Those of some class names that hold words which the text tower was never trained on."""
        return []

    @property
    def interventions(self) -> str:
        """What is changed inside the model while it runs, as text; nothing in a model as its library runs it."""
        return ""

    # the same for all ------------------------------------------------------------------------------------------------

    @property
    def identity(self) -> dict[str, str]:
        """The facts by which an interrupted run knows the model again, for JSON."""
        return {
            "model": self.architecture,
            "weights": self.weights.sha256,
            "precision": self.precision,
            "positions": self.resizing,
            "interventions": self.interventions,
        }

    def final_norm(self, x: Tensor) -> Tensor:
        """The norm after the last block, (B, L, D) → (B, L, D)."""
        for norm in self.final_norms:
            x = norm(x)
        return x

    @property
    def resizing(self) -> str:
        """How a position embedding really comes to another grid here: as the weights' "authors" do it, or as "timm" does.

        It is `positions` for DINO and DINOv2. Every other family knows one way only, whatever was asked for.
        """
        return "authors"

    @property
    def library_name(self) -> str:
        """What the library itself calls the architecture: the part behind the colon."""
        return self.architecture.partition(":")[2]

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

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights that meet the pixels, which is the type of the images that the model takes."""
        patches = next(module for module in self.vit.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
        return patches.weight.dtype

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The context in which the model runs: without dropout, and in autocast if its precision is not its weights' own.

        A module in training is put into eval mode inside, and every part of it is as it was afterwards.
        """
        dtype = PRECISIONS[self.precision]
        native = dtype is None or dtype == self.dtype
        with eval_mode(self.model), nullcontext() if native else torch.autocast(self.device.type, dtype):
            yield

    def normalize(self, pixels: Tensor) -> Tensor:
        """What the model is called with: (pixels − mean) / std, with the weights' own mean and std.

        Args:
            pixels: colors from 0 to 1, floating point, (…, 3, H, W).

        Returns:
            Normalized images of the same shape.

        >>> import clearclip
        >>> model = clearclip.load("dino_vits16", random=True, device="cpu")
        >>> model.normalize(torch.full((3, 1, 1), 0.5)).flatten()
        tensor([0.0655, 0.1964, 0.4178])
        """
        mean, std = self._mean_and_std(pixels)
        return (pixels - mean) / std

    def denormalize(self, images: Tensor) -> Tensor:
        """The way back from `normalize`: images · std + mean, (…, 3, H, W)."""
        mean, std = self._mean_and_std(images)
        return images * std + mean

    def _mean_and_std(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (tuple(map(float, self.preprocessing[key])) for key in ("mean", "std"))
        return _of_colors(mean, images.device, images.dtype), _of_colors(std, images.device, images.dtype)

    def __call__(self, images: Tensor) -> None:
        """Run the trunk in eval mode; read it with a probe or with `block_inputs`.

        Args:
            images: normalized, (B, 3, H, W), with H and W multiples of the patch size.

        Raises:
            UserError: H or W is not a multiple of the patch size.
        """
        self.grid((images.shape[-2], images.shape[-1]))
        with self.autocast():
            self._run(images.to(self.device, self.dtype, non_blocking=True))

    def grid(self, image_size: int | tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows and columns of patches.

        Args:
            image_size: (height, width) in pixels, or the side of a square; by default the weights' own size.

        Raises:
            UserError: a side is not a multiple of the patch size; the nearest ones that are get named.
        """
        size = self.image_size if image_size is None else image_size
        height, width = (size, size) if isinstance(size, int) else size
        p = self.patch_size
        for side in (height, width):
            if side < p or side % p:
                near = max(side // p, 1) * p
                raise UserError(
                    f"{self.name} has {p}-pixel patches, and {side} is not a multiple of {p}: take {near} or {near + p}."
                )
        return height // p, width // p

    def layers(self, layers: Sequence[int] | None = None) -> tuple[int, ...]:
        """Check layer numbers, counted 1 … depth; all of them for None.

        Raises:
            UserError: a layer is out of range or there twice, or none is given.
        """
        if layers is None:
            return tuple(range(1, self.depth + 1))
        wrong = [layer for layer in layers if not 1 <= layer <= self.depth]
        if wrong or not layers:
            raise UserError(f"layers {list(wrong)}: {self.name} has layers 1 … {self.depth}, counted as in the paper.")
        refuse_repeated("layers", layers)
        return tuple(layers)

    def block_inputs(self, images: Tensor, layers: Sequence[int] | None = None) -> dict[int, BlockInput]:
        """The inputs of some blocks; the pass ends before the last wanted block runs.

        Args:
            images: normalized, (B, 3, H, W).
            layers: counted 1 … depth; by default all.

        Returns:
            The `BlockInput` of each layer, its x (B, L, D).

        Raises:
            UserError: a layer is out of range, or H or W is not a multiple of the patch size.
        """
        inputs: dict[int, BlockInput] = {}
        self.run_until(images, self.layers(layers), inputs.__setitem__)
        return inputs

    def run_until(self, images: Tensor, layers: Sequence[int], see: Callable[[int, BlockInput], None]) -> None:
        """Run the trunk up to the last of some blocks, which does not run, and hand on their inputs the moment they exist.

        Args:
            images: normalized, (B, 3, H, W).
            layers: counted 1 … depth.
            see: is called with each layer and its input.
        """
        with _on_block_inputs(self, layers, see, stop_at=max(layers)):
            try:
                self(images)
            except _EnoughSeen:
                return
        raise RuntimeError(f"{self.name}: block {max(layers)} was never reached")

    def last_tokens(self, images: Tensor) -> Tensor:
        """All tokens after the last block and the final norm, (B, 3, H, W) → (B, L, D)."""
        last = self.block_inputs(images, [self.depth])[self.depth]
        with self.autocast():
            return self.final_norm(self.blocks[-1].forward(last.x, last.rope))


@cache  # or every picture would wait for the copy to the device
@torch.inference_mode(False)
def _of_colors(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """One number for each color, (3, 1, 1)."""
    return torch.tensor(values).view(3, 1, 1).to(device, dtype)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Inside, no part of a module is in training mode, so that nothing is dropped and no running mean moves."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


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
