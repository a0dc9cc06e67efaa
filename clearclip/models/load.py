"""From a name to a model with weights: `load("dino_vitb16")`.

The names belong to timm, open_clip and transformers; `names.py` has short ones for some of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from clearclip.errors import UserError, closest
from clearclip.models.backbone import Backbone, Plan
from clearclip.models.checkpoint import load_checkpoint
from clearclip.models.hub import fetch
from clearclip.models.named import Named, all_named, named
from clearclip.models.names import ALIASES, LIBRARIES, SHIPPED
from clearclip.models.weights import Weights, fingerprint


def load(
    name: str,
    checkpoint: str | Path | None = None,
    random: bool = False,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    seed: int = 0,
    positions: str = "authors",
) -> Backbone:
    """Load a vision transformer as a `Backbone`; its weights come from the hub, through the library's own code and cache.

    Args:
        name: a short name, `timm:<arch.tag>` or `open_clip:<arch>/<tag>`.
        checkpoint: take the weights from this file instead, safetensors or weights-only .pt, in the library's key layout.
        random: take seeded random weights instead, for tests and timings; every result says so.
        device: by default the accelerator if there is one.
        precision: fp32, or bf16 or fp16 for autocast.
        seed: of the random weights.
        positions: how DINO's and DINOv2's position embedding is resized at other than their own size: as their "authors"
            do it (bicubic, by scale factor, without antialiasing), or as "timm" does (by size, with antialiasing).

    Raises:
        UserError: the name is unknown, the weights cannot be had (known within seconds), a checkpoint has missing or
            unexpected keys, or the weights need QuickGELU in a model built with GELU.

    >>> model = load("dino_vits16", random=True)
    >>> model.depth, model.width, model.heads, model.prefix_tokens, model.grid((448, 336))
    (12, 384, 6, 1, (28, 21))
    """
    if not isinstance(name, str):
        raise UserError(
            f"load takes the name of a model; for a live {type(name).__name__} there is clearclip.wrap(module)."
        )
    if random and checkpoint is not None:
        raise UserError("random weights and a checkpoint exclude each other: drop --random or --checkpoint.")
    architecture = resolve(name)
    plan = plan_of(architecture)
    if random:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = plan.build(False)
        weights = Weights(f"random (seed {seed})", fingerprint(model), random=True)
    elif checkpoint is not None:
        plan.check()
        model = plan.build(False)
        weights = load_checkpoint(model, Path(checkpoint), architecture)
    else:
        plan.check()
        model = (
            plan.build(True)
            if plan.shipped
            else fetch(
                lambda: plan.build(True),
                f"{name}: the weights {architecture}",
                f", or name a local file with --checkpoint FILE, or use a shipped model ({', '.join(SHIPPED)})",
            )
        )
        weights = Weights(plan.weights, fingerprint(model))
    model = model.eval().requires_grad_(False).to(pick_device(device))
    return plan.backbone(name, model, weights, plan.preprocessing(model), precision, architecture, positions)


def loaders(
    names: Sequence[str],
    checkpoints: Sequence[Path],
    random: bool,
    device: str | None,
    precision: str,
    positions: str = "authors",
) -> list[Callable[[], Backbone]]:
    """One loader for each named model, so that only one is in memory at a time; all are checked before the first loads.

    Args:
        names, checkpoints: as `all_named` takes them.
        random, device, precision, positions: as for `load`.

    Raises:
        UserError: a name is unknown, a checkpoint is missing, or `all_named` raises it.
    """
    models = all_named(names, checkpoints)
    for model in models:
        resolve(model.name)
        if model.checkpoint is not None and not model.checkpoint.is_file():
            raise UserError(f"{model.checkpoint}: no such checkpoint file.")

    def loader(model: Named) -> Callable[[], Backbone]:
        return lambda: replace(
            load(model.name, model.checkpoint, random, device, precision, positions=positions), name=model.label
        )

    return [loader(model) for model in models]


def resolve(name: str) -> str:
    """The library and name behind a short name; a name with a library before a colon stays as it is.

    Raises:
        UserError: the name is unknown; the closest ones are named.

    >>> resolve("clip_vitb16")
    'open_clip:ViT-B-16-quickgelu/openai'
    """
    if name in ALIASES:
        return ALIASES[name]
    library, colon, rest = name.partition(":")
    if not colon:
        raise UserError(
            f"unknown model {name!r}. Closest: {closest(name, list(ALIASES))}. Any timm or open_clip model works "
            "as timm:<arch.tag> or open_clip:<arch>/<tag>."
        )
    if library not in LIBRARIES or not rest:
        raise UserError(f"unknown model {name!r}: before the colon stands one of {', '.join(LIBRARIES)}.")
    return name


def plan_of(architecture: str) -> Plan:
    """The plan that a library has for `library:name`; nothing is built or loaded.

    A library's file is imported here, when one of its models is asked for: not everybody has every library.

    Raises:
        UserError: the library is not installed, or has no such model.
    """
    library, _, name = architecture.partition(":")
    try:
        file = import_module(LIBRARIES[library])
    except ModuleNotFoundError as error:
        extra = LIBRARIES[library].rpartition(".")[2]  # an extra is named after the file that needs it
        raise UserError(
            f'{architecture} needs the {error.name} library: python -m pip install "clearclip-analysis[{extra}]".'
        ) from error
    return file.plan(name)


def has_text(name: str) -> bool:
    """Whether a model, as `named` takes it, has a text tower, so that it can be asked for class names; nothing is loaded.

    Raises:
        UserError: as for `load`, as far as it can be known from the name.

    >>> has_text("clip_vitb16"), has_text("dino_vitb16")
    (True, False)
    """
    return plan_of(resolve(named(name)[0].name)).backbone.has_text


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The named device, or the accelerator if there is one, or the CPU.

    Raises:
        UserError: it does not exist here.
    """
    if device is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if accelerator is None:
            return torch.device("cpu")
        if "LOCAL_RANK" not in os.environ:
            return accelerator
        return torch.device(accelerator.type, int(os.environ["LOCAL_RANK"]))  # torchrun: one process per accelerator
    try:
        named = torch.device(device)
        torch.empty(0, device=named)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return named
