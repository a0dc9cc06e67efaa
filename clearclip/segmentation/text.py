"""Class names → text embeddings, through prompt templates, kept on disk by content."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from clearclip import outputs
from clearclip.errors import UserError
from clearclip.models.backbone import Backbone
from clearclip.models.finite import require_finite
from clearclip.models.threads import threads, threads_for
from clearclip.models.weights import LiveWeights
from clearclip.words import listed, repeated

PROMPT_TOKENS = 77  # of a prompt, about
PROMPTS_AT_ONCE = 256
BACKGROUND = "background"


@dataclass(frozen=True)
class Queries:
    """Text embeddings of several classes, each with one or several names.

    Args:
        embeddings: one L2-normalized row per name, (Q, E).
        owner: the class each row belongs to, (Q,).
        classes: what the classes are called, each by its first name.
    """

    embeddings: Tensor
    owner: Tensor
    classes: tuple[str, ...]


def templates(which: str | Sequence[str] = "imagenet") -> list[str]:
    """Prompt templates with {} for the name.

    Args:
        which: the 80 of ImageNet ("imagenet"), 7 of them ("simple"), one ("photo"), or a list of your own.

    Raises:
        UserError: the set is unknown, or a template has no {}.

    >>> len(templates()), templates("photo"), templates(["a map of {}."])
    (80, ['a photo of a {}.'], ['a map of {}.'])
    """
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
    """The names of each class.

    Args:
        classes: a list, or text with commas between classes and | between the names of one class.

    Raises:
        UserError: there is no class, a class has no name, or a name is there twice, in one class or in two.

    >>> class_names("horse|pony, grass"), class_names(["sky", ["car", "van"]])
    ([['horse', 'pony'], ['grass']], [['sky'], ['car', 'van']])
    """
    parts = classes.split(",") if isinstance(classes, str) else classes
    named = [[name.strip() for name in (part.split("|") if isinstance(part, str) else part)] for part in parts]
    if not named or not all(all(names) and names for names in named):
        raise UserError(f'classes {classes!r}: each class needs a name; write them as "horse, grass, sky".')
    every = [" ".join(name.split()).lower() for names in named for name in names]  # as text towers read them
    if twice := repeated(every):
        raise UserError(f"classes: {listed(twice)} is there twice; name each class once, and each name in one class.")
    if any("\0" in name for name in every):
        raise UserError(f"classes {classes!r}: a name is text, and NUL is none.")
    return named


def contrasted(named: list[list[str]], contrast: str | Sequence[str]) -> list[list[str]]:
    """Classes and words that compete with them, which are names of the class background, the first one.

    Args:
        named: the names of each class.
        contrast: words, a list or text with commas between them.

    Raises:
        UserError: a word is a name of a class, too.

    >>> contrasted([["horse", "pony"]], "sky, ground")
    [['sky', 'ground'], ['horse', 'pony']]
    >>> contrasted([["background"], ["horse"]], ["sky"])
    [['background', 'sky'], ['horse']]
    """
    words = [name for group in class_names(contrast) for name in group]
    background, others = (named[0], named[1:]) if named[0][0] == BACKGROUND else ([], named)
    both = sorted({BACKGROUND, *words} & {name for group in others for name in group} | set(words) & set(background))
    if both:
        raise UserError(f"contrast {', '.join(both)}: a name of a class cannot compete with it; give other words.")
    return [[*background, *words], *others]


def embed(
    model: Backbone,
    classes: str | Sequence[str | Sequence[str]],
    prompts: str | Sequence[str] = "imagenet",
    cache: Path | None = None,
) -> Queries:
    """Embed class names: the mean over the templates of L2-normalized prompt embeddings, L2-normalized again (paper §4).

    Args:
        model: a CLIP or another model with a text tower.
        classes: as for `class_names`.
        prompts: as for `templates`.
        cache: a folder for embeddings. Each lies under a name made of the weights, the templates and the class name, so that
            nothing stale is ever read. Embeddings of random weights and of live modules are not kept.

    Raises:
        UserError: the model has no text tower, or what it gives is not finite.

    >>> import clearclip
    >>> queries = embed(clearclip.load("clip_vitb32", random=True), "horse|pony, grass", "photo")
    >>> queries.embeddings.shape, queries.owner.tolist(), queries.classes
    (torch.Size([3, 512]), [0, 0, 1], ('horse', 'grass'))
    """
    named, patterns = class_names(classes), templates(prompts)
    names = [name for group in named for name in group]
    keep = None if cache is None or model.weights.random or isinstance(model.weights, LiveWeights) else cache
    known = {} if keep is None else {name: _read(keep, model, patterns, name) for name in names}
    missing = [name for name in dict.fromkeys(names) if known.get(name) is None]
    untrained = model.untrained(missing)
    if untrained:
        warnings.warn(
            f"{model.name} was never trained on some words of: {', '.join(untrained)}. Its result for them is arbitrary.",
            stacklevel=2,
        )
    for name in missing:
        with threads(threads_for(model, PROMPT_TOKENS * len(patterns))):  # as the image tower, it is about as large
            known[name] = row = _embed_one(model, [pattern.replace("{}", name) for pattern in patterns])
        require_finite(row.isfinite().all()[None, None], [f"class name {name!r}"], ["the text embedding"], model)
        if keep is not None:
            try:
                _write(keep, model, patterns, name, row)
            except outputs.Unwritable as error:  # a full or read-only disk costs time, never the result
                warnings.warn(f"text embeddings cannot be kept in {keep}: {error.reason}", stacklevel=2)
                keep = None
    rows = torch.stack([row for row in (known[name] for name in names) if row is not None])
    owner = torch.tensor([i for i, group in enumerate(named) for _ in group])
    return Queries(rows.to(model.device), owner.to(model.device), tuple(group[0] for group in named))


def embed_nothing(model: Backbone, prompts: str | Sequence[str] = "imagenet") -> Tensor:
    """What prompt templates say without any name: the mean of their embeddings, L2-normalized, (E,)."""
    return _embed_one(model, [pattern.replace("{}", "") for pattern in templates(prompts)]).to(model.device)


@torch.inference_mode()
def embed_each(model: Backbone, names: Sequence[str], patterns: Sequence[str]) -> Tensor:
    """Embeddings of names in every template alone, L2-normalized, (T, Q, E)."""
    rows = [_embed_prompts(model, [pattern.replace("{}", name) for pattern in patterns]) for name in names]
    return torch.stack(rows, 1).to(model.device)


@torch.inference_mode()
def _embed_one(model: Backbone, prompts: list[str]) -> Tensor:
    """The average direction of a few prompts, (E,)."""
    return F.normalize(_embed_prompts(model, prompts).mean(0), dim=-1).cpu()


def _embed_prompts(model: Backbone, prompts: list[str]) -> Tensor:
    """The direction of every prompt, (T, E)."""
    parts = [model.encode_texts(prompts[i : i + PROMPTS_AT_ONCE]) for i in range(0, len(prompts), PROMPTS_AT_ONCE)]
    return F.normalize(torch.cat(parts).float(), dim=-1)


def default_cache() -> Path:
    """Where the command lines keep text embeddings: clearclip below XDG_CACHE_HOME, or below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clearclip" / "text"


def _file(cache: Path, model: Backbone, patterns: list[str], name: str) -> Path:
    facts = json.dumps([model.architecture, model.weights.sha256, model.precision, patterns, name])
    return cache / f"{hashlib.sha256(facts.encode()).hexdigest()}.safetensors"


def _read(cache: Path, model: Backbone, patterns: list[str], name: str) -> Tensor | None:
    try:
        embedding = load_file(_file(cache, model, patterns, name))["embedding"]
    except (FileNotFoundError, SafetensorError, KeyError):  # not there, or cut off while it was written
        return None
    return embedding if embedding.isfinite().all() else None


def _write(cache: Path, model: Backbone, patterns: list[str], name: str, embedding: Tensor) -> None:
    outputs.write(_file(cache, model, patterns, name), save({"embedding": embedding.contiguous()}))
