"""Class names → text embeddings, through prompt templates, kept on disk by content."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clearclip.errors import UserError
from clearclip.models.backbone import Backbone, BlipBackbone

PROMPTS_AT_ONCE = 256


@dataclass(frozen=True)
class Queries:
    """Text embeddings of several classes, each with one or several names.

    `embeddings` (Q, E), one L2-normalised row a name; `owner` (Q,), the class each row belongs to; `classes`, how the
    classes are called (each by its first name).
    """

    embeddings: Tensor
    owner: Tensor
    classes: tuple[str, ...]


def templates(which: str | Sequence[str] = "imagenet") -> list[str]:
    """Prompt templates with {} for the name: the 80 of ImageNet ("imagenet"), 7 of them ("simple"), one ("photo"), or your own.

    Raises `UserError` for an unknown set, or a template without {}.

    >>> len(templates()), templates("photo"), templates(["a map of {}."])
    (80, ['a photo of a {}.'], ['a map of {}.'])
    """
    from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    sets = {
        "imagenet": [template("{}") for template in OPENAI_IMAGENET_TEMPLATES],
        "simple": [template("{}") for template in SIMPLE_IMAGENET_TEMPLATES],
        "photo": ["a photo of a {}."],
    }
    if isinstance(which, str):
        if which not in sets:
            raise UserError(
                f"templates {which!r}: choose from {', '.join(sets)}, or give a list of your own with {{}}."
            )
        return sets[which]
    wrong = [template for template in which if "{}" not in template]
    if wrong or not which:
        raise UserError(f"templates {wrong}: each needs {{}} where the class name goes.")
    return list(which)


def class_names(classes: str | Sequence[str | Sequence[str]]) -> list[list[str]]:
    """Classes and their names: from a list, or from text with commas between classes and | between names of one class.

    Raises `UserError` if there is no class, or one without a name, or one twice.

    >>> class_names("horse|pony, grass"), class_names(["sky", ["car", "van"]])
    ([['horse', 'pony'], ['grass']], [['sky'], ['car', 'van']])
    """
    given = classes.split(",") if isinstance(classes, str) else classes
    named = [[part.strip() for part in (one.split("|") if isinstance(one, str) else one)] for one in given]
    firsts = [names[0] if names else "" for names in named]
    if not named or not all(all(names) and names for names in named):
        raise UserError(f'classes {classes!r}: each class needs a name; write them as "horse, grass, sky".')
    if len(set(firsts)) != len(firsts):
        raise UserError(f"classes {firsts}: each class once.")
    return named


def embed(
    model: Backbone,
    classes: str | Sequence[str | Sequence[str]],
    prompts: str | Sequence[str] = "imagenet",
    cache: Path | None = None,
) -> Queries:
    """Embed class names: each prompt's embedding L2-normalised, averaged over the templates, normalised again (paper §4).

    Args: classes as in `class_names`; prompts as in `templates`; cache: a folder where embeddings are kept, each under
    a name made of the weights, the templates and the class name, so that nothing stale is ever read. Embeddings of
    random weights are not kept.

    Raises `UserError` if the model has no text tower.

    >>> import clearclip
    >>> queries = embed(clearclip.load("clip_vitb32", random=True), "horse|pony, grass", "photo")
    >>> queries.embeddings.shape, queries.owner.tolist(), queries.classes
    (torch.Size([3, 512]), [0, 0, 1], ('horse', 'grass'))
    """
    named, chosen = class_names(classes), templates(prompts)
    names = [name for group in named for name in group]
    keep = None if cache is None or model.weights.random else cache
    known = {} if keep is None else {name: _read(keep, model, chosen, name) for name in names}
    missing = [name for name in dict.fromkeys(names) if known.get(name) is None]
    if missing:
        encode = _encoder(model, missing)
        for name in missing:
            known[name] = row = _embed_one(encode, [template.replace("{}", name) for template in chosen])
            if keep is not None:
                try:
                    _write(keep, model, chosen, name, row)
                except OSError as error:  # a full or read-only disk costs time, never the result
                    warnings.warn(f"text embeddings cannot be kept in {keep}: {error.strerror}", stacklevel=2)
                    keep = None
    rows = torch.stack([row for row in (known[name] for name in names) if row is not None])
    owner = torch.tensor([i for i, group in enumerate(named) for _ in group])
    return Queries(rows.to(model.device), owner.to(model.device), tuple(group[0] for group in named))


@torch.inference_mode()
def _embed_one(encode: Callable[[list[str]], Tensor], prompts: list[str]) -> Tensor:
    """The average direction of a few prompts, (E,)."""
    parts = [encode(prompts[i : i + PROMPTS_AT_ONCE]) for i in range(0, len(prompts), PROMPTS_AT_ONCE)]
    return F.normalize(F.normalize(torch.cat(parts).float(), dim=-1).mean(0), dim=-1).cpu()


def _encoder(model: Backbone, names: list[str]) -> Callable[[list[str]], Tensor]:
    """Texts → embeddings (N, E) with the library's own tokenizer and text tower; `names` are what they will speak of."""
    library, _, rest = model.architecture.partition(":")
    if isinstance(model, BlipBackbone):
        return _blip_encoder(model.model, rest, model.device)
    if not hasattr(model.model, "encode_text"):
        raise UserError(f"{model.name} has no text tower, so it cannot name classes: take a CLIP, such as clip_vitb16.")
    tokenize = _tokenizer(rest.partition("/")[0] if library == "open_clip" else None)
    _warn_of_untrained_words(model, tokenize, names)

    def encode(texts: list[str]) -> Tensor:
        with model.autocast():
            return model.model.encode_text(tokenize(texts, context_length=model.model.context_length).to(model.device))

    return encode


def _warn_of_untrained_words(model: Backbone, tokenize: Any, names: list[str]) -> None:
    """Say which class names hold tokens that a text tower was never trained on, as small ones are (their rows are zero)."""
    table = getattr(model.model, "token_embedding", None)
    if table is None:
        return
    untrained = [name for name in names if (table.weight[tokenize([name])[0].to(model.device)] == 0).all(-1).any()]
    if untrained:
        warnings.warn(
            f"{model.name} was never trained on some words of: {', '.join(untrained)}. Its result for them is arbitrary.",
            stacklevel=4,
        )


def _tokenizer(arch: str | None) -> Any:
    """open_clip's tokenizer of an architecture; those that live on the hub are looked up like weights are."""
    import open_clip

    from clearclip.models.hub import offline_if_unreachable

    if arch is None or "hf_tokenizer_name" not in open_clip.get_model_config(arch)["text_cfg"]:
        return open_clip.SimpleTokenizer()
    with offline_if_unreachable():
        try:
            return open_clip.get_tokenizer(arch)
        except Exception as error:
            raise UserError(
                f"the tokenizer of {arch} lives on the hub and is neither in the cache nor reachable: {error}"
            ) from error


def _blip_encoder(blip: Any, name: str, device: torch.device) -> Callable[[list[str]], Tensor]:
    from transformers import AutoTokenizer

    from clearclip.models.hub import offline_if_unreachable

    with offline_if_unreachable():
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
        except Exception as error:
            raise UserError(f"the tokenizer of {name} is neither in the cache nor reachable: {error}") from error

    def encode(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        states = blip.text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return blip.text_proj(states[:, 0])

    return encode


def default_cache() -> Path:
    """Where the command lines keep text embeddings: clearclip below XDG_CACHE_HOME, or below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clearclip" / "text"


def _file(cache: Path, model: Backbone, chosen: list[str], name: str) -> Path:
    facts = json.dumps([model.architecture, model.weights.sha256, model.precision, chosen, name])
    return cache / f"{hashlib.sha256(facts.encode()).hexdigest()}.safetensors"


def _read(cache: Path, model: Backbone, chosen: list[str], name: str) -> Tensor | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(_file(cache, model, chosen, name))["embedding"]
    except (FileNotFoundError, SafetensorError, KeyError):  # not there, or cut off while it was written
        return None


def _write(cache: Path, model: Backbone, chosen: list[str], name: str, embedding: Tensor) -> None:
    from safetensors.torch import save

    path = _file(cache, model, chosen, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_bytes(save({"embedding": embedding.contiguous()}))
    unfinished.replace(path)
