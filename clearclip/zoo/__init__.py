"""The two small models that come with the package: a CLIP and a DINO trained on the same drawn scenes.

``clip_tiny`` is open_clip's own `CLIP`, ``dino_tiny`` timm's own `VisionTransformer`; both have the same transformer:
6 pre-norm blocks, width 96, 3 heads, patch 8, 64-pixel pictures, a normalisation before the blocks, exact GELU, a CLS.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, OPENAI_IMAGENET_TEMPLATES
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save
from timm.models import VisionTransformer
from torch import Tensor

from clearclip import outputs
from clearclip.datasets.drawn.captions import BEFORE, ON, OPENINGS, article
from clearclip.datasets.drawn.textures import STUFF
from clearclip.datasets.drawn.things import COLOURS, THINGS

WEIGHTS = Path(__file__).parent / "weights"
PREPROCESS = {
    "size": 64,
    "mean": OPENAI_DATASET_MEAN,
    "std": OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
TIMM_PREPROCESS: dict[str, Any] = {  # the same, as timm writes it
    "input_size": (3, 64, 64),
    "mean": OPENAI_DATASET_MEAN,
    "std": OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "center",
}
CLIP_TINY: dict[str, Any] = {  # as open_clip writes its model configurations
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 6, "width": 96, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
DINO_TINY: dict[str, Any] = {  # arguments of timm's VisionTransformer
    "img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 6, "num_heads": 3, "num_classes": 0,
    "pre_norm": True, "dynamic_img_size": True,
}  # fmt: skip
EMBEDDING, KNOWN_IDS = "token_embedding.weight", "known_ids"


def tokenizer() -> SimpleTokenizer:
    """open_clip's own tokenizer with the context length of ``clip_tiny``."""
    return SimpleTokenizer(context_length=CLIP_TINY["text_cfg"]["context_length"])


def vocabulary() -> Tensor:
    """The sorted ids (N,) of all tokens that training reaches: in captions, prompt templates and class names."""
    sentences = [template("") for template in OPENAI_IMAGENET_TEMPLATES]
    sentences += [opening.format("") for opening in OPENINGS]
    sentences += [pattern.format(things=", and ", ground="", wall="") for pattern in (*ON, *BEFORE)]
    sentences += [article(word) for word in (*COLOURS, *THINGS, *STUFF)]
    ids: Tensor = tokenizer()(sentences)
    return ids.unique()


def save_clip_tiny(model: CLIP, path: Path, ids: Tensor | None = None) -> None:
    """Write the weights in float16, with the token embeddings of the known ids only."""
    known = vocabulary() if ids is None else ids
    state = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    state[EMBEDDING] = state[EMBEDDING][known]
    outputs.write(path, save({**state, KNOWN_IDS: known.int()}))


def build_clip_tiny(path: Path = WEIGHTS / "clip_tiny.safetensors", configuration: dict[str, Any] = CLIP_TINY) -> CLIP:
    """The trained ``clip_tiny``, float32, in eval mode; the token embeddings that training never reached are zero."""
    state = {name: value.float() for name, value in load_file(path).items()}
    known = state.pop(KNOWN_IDS).long()
    rows = state[EMBEDDING]  # (N, C)
    state[EMBEDDING] = torch.zeros(configuration["text_cfg"]["vocab_size"], rows.shape[1]).index_copy(0, known, rows)
    model = CLIP(**configuration)
    model.load_state_dict(state)
    model.visual.preprocess_cfg = PREPROCESS  # where open_clip keeps it
    return model.eval()


def save_dino_tiny(model: VisionTransformer, path: Path) -> None:
    """Write the weights in float16."""
    state = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    outputs.write(path, save(state))


def build_dino_tiny(path: Path = WEIGHTS / "dino_tiny.safetensors") -> VisionTransformer:
    """The trained ``dino_tiny``, float32, in eval mode."""
    model = VisionTransformer(**DINO_TINY)
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    model.pretrained_cfg = TIMM_PREPROCESS  # where timm keeps it
    return model.eval()


def unknown_words(names: Iterable[str]) -> list[str]:
    """The words of these class names that ``clip_tiny`` was never trained on, each once, in their order.

    >>> unknown_words(["red ball", "giraffe on grass"])
    ['giraffe']
    """
    encode, known = tokenizer().encode, set(vocabulary().tolist())
    words = dict.fromkeys(word for name in names for word in re.findall(r"[^\W_]+", name.lower()))
    return [word for word in words if not known.issuperset(encode(word))]
