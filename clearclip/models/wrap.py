"""From a live module to a Backbone: `wrap(module)`, also while the module is in training."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone, Live
from clearclip.models.block import qualified
from clearclip.models.load import loaders
from clearclip.models.names import LIBRARIES
from clearclip.models.weights import LiveWeights

PRECISION = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}  # what weights are stored in
CAN_BE_TAKEN = (
    "a vision transformer of timm (VisionTransformer or Eva), a whole CLIP of open_clip (not only its visual part), "
    "or a BlipForImageTextRetrieval of transformers"
)

ModelLike = Backbone | nn.Module | str


def wrap(
    module: nn.Module,
    name: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    precision: str | None = None,
    tokenizer: Any = None,
    positions: str = "authors",
) -> Backbone:
    """A `Backbone` over a live module, which stays where and as it is: device, weights, gradients, hooks and mode.

    Measurements run in eval mode, whatever mode the module is in: no dropout acts and no random number is drawn.
    Every part that was in training is in training again afterwards. Results have the SHA-256 of the weights at that time.

    Args:
        module: a vision transformer of timm, a CLIP of open_clip or a BLIP of transformers. One that is compiled or
            wrapped for several devices is looked into.
        name: what results call it; by default what its library calls it.
        preprocessing: `mean` and `std`, and what else the library's configuration knows; by default the module's own.
        precision: fp32, or bf16 or fp16 for autocast; by default that of its weights.
        tokenizer: of a CLIP whose texts are not tokenized as OpenAI's are.
        positions: as for `load`, for a module that timm says is a DINO or DINOv2.

    Raises:
        UserError: the module is not one that can be taken, or its preprocessing cannot be known.

    >>> import timm
    >>> vit = timm.create_model("test_vit").train()
    >>> model = wrap(vit, name="mine")
    >>> model(torch.zeros(1, 3, 160, 160)), model.depth, vit.training
    (None, 6, True)
    """
    module = _inner(module)
    library, live = _library_of(module)
    own = live.preprocessing if preprocessing is None else preprocessing
    if own is None or not {"mean", "std"} <= own.keys():
        raise UserError(
            f"the preprocessing of this {type(module).__name__} is not known: give what it was trained with, such as "
            'preprocessing={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}.'
        )
    backbone = live.backbone(
        name or live.name,
        module,
        LiveWeights(module),
        live.complete(own),
        precision or "fp32",
        f"{library}:{live.name}",
        positions,
    )
    stored = PRECISION.get(backbone.dtype)
    if stored is None or (stored != "fp32" and precision not in (None, stored)):
        raise UserError(
            f"the weights of {backbone.name} are {backbone.dtype}, which does not go with precision "
            f"{precision or 'fp32'}: take module.float(), or leave precision out for weights in fp32, bf16 or fp16."
        )
    backbone.precision = precision or stored
    if tokenizer is not None:
        backbone.tokenizer = tokenizer  # type: ignore[attr-defined]
    return backbone


def as_backbone(model: ModelLike) -> Backbone:
    """Whatever stands for a model: a `Backbone`, a live module, or a name as on a command line.

    A name may have a label and a checkpoint: after=dinov2_vits14:after.safetensors.

    Raises:
        UserError: as `wrap` and `load` do, and for a folder of several checkpoints.

    >>> as_backbone("dino_tiny").depth
    6
    """
    if isinstance(model, Backbone):
        return model
    if not isinstance(model, str):
        return wrap(model)
    load, *others = loaders([model], (), False, None, "fp32")
    if others:
        raise UserError(f"{model} is {len(others) + 1} models, and one is measured at a time: name one of the files.")
    return load()


def _inner(module: Any) -> Any:
    """The module that torch.compile or DistributedDataParallel was put around."""
    while hasattr(module, "_orig_mod") or isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module
    return module


def _library_of(module: nn.Module) -> tuple[str, Live]:
    """The library that a module comes from, and what it knows about it."""
    for library, file in LIBRARIES.items():
        try:
            wraps = getattr(import_module(file), "wraps", None)  # the shipped models are other libraries' modules
        except ModuleNotFoundError:  # a module of a library that is not installed cannot be at hand
            continue
        live = wraps and wraps(module)
        if live:
            return library, live
    given = qualified(type(module))
    raise UserError(f"a model is a name, such as clip_vitb16, or a live module, not {given}. Taken are {CAN_BE_TAKEN}.")
