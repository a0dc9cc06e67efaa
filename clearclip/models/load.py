"""From a name to a model with weights: `load("dino_vitb16")`.

The names belong to timm, open_clip and transformers; this is a short alias table over them, and one message for
everything that can go wrong on the way.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from clearclip.errors import UserError, closest
from clearclip.models.backbone import (
    Backbone,
    BlipBackbone,
    OpenClipBackbone,
    OpenClipTimmBackbone,
    TimmBackbone,
    Weights,
)
from clearclip.models.hub import offline_if_unreachable, quiet
from clearclip.models.names import ALIASES, SHIPPED

BLIP_SHAPES = {
    "Salesforce/blip-itm-base-coco": {},
    "Salesforce/blip-itm-large-coco": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}
WHERE_WEIGHTS_COME_FROM = (
    "Either connect once, so that the library downloads them into its cache (HF_HOME names the cache's folder, "
    "HF_HUB_OFFLINE=1 uses only it), or name a local file with --checkpoint FILE, or use a shipped model "
    f"({', '.join(SHIPPED)})"
)


class Plan(NamedTuple):
    """How a model is built: with the hub's weights or without any, and which view fits it."""

    build: Callable[[bool], nn.Module]  # called with pretrained: True loads the hub's weights
    view: type[Backbone]
    preprocessing: Callable[[nn.Module], dict[str, Any]]
    check: Callable[[], None] = lambda: None  # refuses hub weights that do not fit the architecture


def load(
    name: str,
    checkpoint: str | Path | None = None,
    random: bool = False,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    seed: int = 0,
) -> Backbone:
    """Load a vision transformer by short name, `timm:<arch.tag>` or `open_clip:<arch>/<tag>`, as a `Backbone`.

    Weights come from the hub through the library's own code and cache, or from `checkpoint` (safetensors, or a
    weights-only .pt, in the library's own key layout), or are `random` (seeded; for tests and timings, and every
    result says so). `device` is by default the accelerator if there is one; `precision` is fp32, bf16 or fp16 autocast.

    Raises `UserError` for an unknown name (with the closest ones), for weights that cannot be had (within seconds), for
    missing or unexpected keys in a checkpoint, and for weights that need QuickGELU in a model built with GELU.

    >>> model = load("dino_vits16", random=True)
    >>> model.depth, model.width, model.heads, model.prefix_tokens, model.grid((448, 336))
    (12, 384, 6, 1, (28, 21))
    """
    if random and checkpoint is not None:
        raise UserError("random weights and a checkpoint exclude each other: drop --random or --checkpoint.")
    architecture = resolve(name)
    plan = _plan(architecture)
    if random:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = plan.build(False)
        weights = Weights(f"random (seed {seed})", fingerprint(model), random=True)
    elif checkpoint is not None:
        plan.check()
        model = plan.build(False)
        weights = _load_checkpoint(model, Path(checkpoint), architecture)
    else:
        plan.check()
        model = plan.build(True) if name in SHIPPED else _from_hub(plan, name, architecture)
        origin = architecture.partition(":")[2]
        weights = Weights(
            f"{origin}, shipped, trained on drawn scenes" if name in SHIPPED else origin, fingerprint(model)
        )
    model = model.eval().requires_grad_(False).to(pick_device(device))
    return plan.view(name, model, weights, plan.preprocessing(model), precision, architecture)


def resolve(name: str) -> str:
    """The library and name behind a short name; prefixed names pass. Raises `UserError` with the closest names.

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
    if library not in PLANS or not rest:
        raise UserError(f"unknown model {name!r}: before the colon stands one of {', '.join(PLANS)}.")
    return name


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The named device, or the accelerator if there is one, or the CPU; `UserError` if it does not exist here."""
    if device is None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if accelerator is None:
            return torch.device("cpu")
        if "LOCAL_RANK" not in os.environ:
            return accelerator
        return torch.device(accelerator.type, int(os.environ["LOCAL_RANK"]))  # torchrun: one process an accelerator
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {str(device)!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return chosen


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes, types and bytes of a model's state dict."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


# the libraries -------------------------------------------------------------------------------------------------------


def _plan(architecture: str) -> Plan:
    library, _, rest = architecture.partition(":")
    return PLANS[library](rest)


def _timm(name: str) -> Plan:
    import timm

    if not timm.is_model(name):
        raise UserError(
            f"timm has no model {name!r}. Closest: {closest(name, timm.list_models('*vit*', pretrained=True))}."
        )

    arch, _, tag = name.partition(".")
    tags = timm.list_pretrained(f"{arch}.*")
    if tag and name not in tags:
        raise UserError(f"timm has no weights {tag!r} for {arch}. It has: {', '.join(tags) or 'none'}.")

    def build(pretrained: bool) -> nn.Module:
        try:
            return timm.create_model(name, pretrained=pretrained, dynamic_img_size=True)
        except TypeError as error:  # the architecture knows no such option, so it is no plain vision transformer
            raise UserError(f"timm:{name} is no vision transformer with a dynamic image size: {error}") from error

    def preprocessing(model: nn.Module) -> dict[str, Any]:
        return timm.data.resolve_data_config(pretrained_cfg=model.pretrained_cfg)

    def check() -> None:
        twin = name.replace("_clip_", "_clip_quickgelu_")
        if "quickgelu" not in name and twin != name and twin in timm.list_pretrained("*quickgelu*"):
            raise UserError(
                f"the weights {name} were trained with QuickGELU and this architecture has GELU, which would give "
                f"other statistics. Use timm:{twin}."
            )

    return Plan(build, TimmBackbone, preprocessing, check)


def _open_clip(name: str) -> Plan:
    import open_clip

    arch, _, tag = name.partition("/")
    config = open_clip.get_model_config(arch)
    if config is None:
        raise UserError(f"open_clip has no model {arch!r}. Closest: {closest(arch, open_clip.list_models())}.")
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag and tag not in tags:
        raise UserError(f"open_clip has no weights {tag!r} for {arch}. It has: {', '.join(tags) or 'none'}.")
    cfg = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    trunk = config["vision_cfg"].get("timm_model_name")

    def build(pretrained: bool) -> nn.Module:
        if pretrained and not tag:
            raise UserError(
                f"open_clip:{arch} names no weights: write open_clip:{arch}/<tag>, one of {', '.join(tags)}."
            )
        with quiet(not pretrained):  # it warns of random weights, which here are asked for or replaced at once
            model = open_clip.create_model(arch, pretrained=tag if pretrained else None, weights_only=True)
        if trunk is not None:
            _free_image_size(model, trunk)
        return model

    def preprocessing(model: nn.Module) -> dict[str, Any]:
        default = asdict(open_clip.transform.PreprocessCfg(size=config["vision_cfg"].get("image_size", 224)))
        return default | {key: cfg[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in cfg}

    def check() -> None:
        if cfg.get("quick_gelu", False) and not config.get("quick_gelu", False) and trunk is None:
            raise UserError(
                f"the weights {arch}/{tag} were trained with QuickGELU and {arch} has GELU, which would give other "
                f"statistics with only a warning. Use open_clip:{arch}-quickgelu/{tag}."
            )
        if arch.endswith("-quickgelu") and tag and not cfg.get("quick_gelu", False):
            raise UserError(
                f"the weights {arch}/{tag} were trained with GELU and {arch} has QuickGELU. "
                f"Use open_clip:{arch.removesuffix('-quickgelu')}/{tag}."
            )

    return Plan(build, OpenClipBackbone if trunk is None else OpenClipTimmBackbone, preprocessing, check)


def _free_image_size(model: Any, trunk: str) -> None:
    """Give an open_clip model's timm trunk timm's own `dynamic_img_size`, which open_clip does not pass on."""
    import timm

    old = model.visual.trunk
    if not hasattr(old, "blocks"):
        raise UserError(f"the image tower {trunk} ({type(old).__name__}) is no vision transformer with `blocks`.")
    new = timm.create_model(trunk, num_classes=old.num_classes, global_pool=old.global_pool, dynamic_img_size=True)
    new.load_state_dict(old.state_dict())
    model.visual.trunk = new


def _transformers(name: str) -> Plan:
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            'BLIP needs the transformers library: python -m pip install "clearclip-analysis[blip]".'
        ) from error
    if name not in BLIP_SHAPES:
        raise UserError(f"transformers:{name} is not supported. Supported: {', '.join(BLIP_SHAPES)}.")

    def build(pretrained: bool) -> nn.Module:
        if pretrained:
            return transformers.BlipForImageTextRetrieval.from_pretrained(name)
        shape = {"image_size": 384} | BLIP_SHAPES[name]
        text = {"encoder_hidden_size": shape.get("hidden_size", 768)}
        return transformers.BlipForImageTextRetrieval(transformers.BlipConfig(vision_config=shape, text_config=text))

    def preprocessing(model: Any) -> dict[str, Any]:
        # the processor of both checkpoints: squash to a square, bicubic, OpenAI's mean and standard deviation
        from open_clip.transform import PreprocessCfg

        return asdict(PreprocessCfg(size=model.config.vision_config.image_size, resize_mode="squash"))

    return Plan(build, BlipBackbone, preprocessing)


def _zoo(name: str) -> Plan:
    from clearclip import zoo

    if name not in SHIPPED:
        raise UserError(f"no model {name!r} comes with the package. There are: {', '.join(SHIPPED)}.")
    if name == "clip_tiny":
        from open_clip.model import CLIP

        return Plan(
            lambda trained: zoo.build_clip_tiny() if trained else CLIP(**zoo.CLIP_TINY),
            OpenClipBackbone,
            lambda model: dict(zoo.PREPROCESS),
        )
    from timm.models import VisionTransformer

    return Plan(
        lambda trained: zoo.build_dino_tiny() if trained else VisionTransformer(**zoo.DINO_TINY),
        TimmBackbone,
        lambda model: zoo.TIMM_PREPROCESS,
    )


PLANS: dict[str, Callable[[str], Plan]] = {
    "timm": _timm,
    "open_clip": _open_clip,
    "transformers": _transformers,
    "zoo": _zoo,
}


# weights -------------------------------------------------------------------------------------------------------------


def _from_hub(plan: Plan, name: str, architecture: str) -> nn.Module:
    with offline_if_unreachable() as online:
        try:
            return plan.build(True)
        except UserError:
            raise
        except Exception as error:  # each library fails in its own way; the person needs one answer
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if online:
                raise UserError(f"{name}: the weights {architecture} could not be loaded: {reason}") from error
            raise UserError(
                f"{name}: the weights {architecture} are not in the local cache and the hub cannot be reached "
                f"({type(error).__name__}). {WHERE_WEIGHTS_COME_FROM}."
            ) from error


def _load_checkpoint(model: nn.Module, path: Path, architecture: str) -> Weights:
    state = read_state_dict(path)
    expected = model.state_dict()
    wrong = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in sorted(expected.keys() & state.keys())
            if state[key].shape != expected[key].shape
        ],
    }
    if any(wrong.values()):
        shown = "; ".join(
            f"{len(keys)} {what}: {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}"
            for what, keys in wrong.items()
            if keys
        )
        raise UserError(
            f"{path} does not hold the weights of {architecture}. Keys {shown}. "
            "The file must have the library's own key layout."
        )
    model.load_state_dict(state)
    with path.open("rb") as file:
        return Weights(path.name, hashlib.file_digest(file, "sha256").hexdigest())


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors or weights-only .pt file; never runs code from the file.

    Raises `UserError` if there is no such file, or if it holds anything but tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is no readable safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(
            f"{path} cannot be loaded as weights only (plain tensors, no code, no TorchScript archive). "
            "Convert it to safetensors where you trust it."
        ) from error
    if isinstance(content, dict):
        for key in ("state_dict", "model"):  # what training scripts commonly wrap the tensors in
            if isinstance(content.get(key), dict):
                content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise UserError(f"{path} holds no plain dictionary of tensors.")
    return {key.removeprefix("module."): value for key, value in content.items()}
