"""The checks: each measures a few numbers of a model, which an `Expectation` compares with published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as pixels

from clearclip.models.backbone import Backbone
from clearclip.segmentation.text import embed
from clearclip.verification import collapse, own_code, zero_shot
from clearclip.verification.expectations import array
from clearclip.verification.pictures import Pictures

Picture = Mapping[str, Any]  # its name, its SHA-256 where it is known, and how it was prepared where that is special


def image_embedding(model: Backbone, pictures: Pictures, picture: Picture, first: int) -> list[float]:
    """The first channels of a photograph's embedding, and the sum of all."""
    embedding = own_code.encode_image(model, _prepared(model, pictures, picture))[0]
    return [*embedding[:first].tolist(), embedding.double().sum().item()]


def text_embedding(model: Backbone, pictures: Pictures, text: str, first: int) -> list[float]:
    """The first channels of a text's embedding, and the sum of all."""
    embedding = model.encode_texts([text])[0].float()
    return [*embedding[:first].tolist(), embedding.double().sum().item()]


def cosines(model: Backbone, pictures: Pictures, picture: Picture, texts: Sequence[str]) -> list[float]:
    """Cosine of a photograph and each text."""
    image = own_code.encode_image(model, _prepared(model, pictures, picture))
    return F.cosine_similarity(image, model.encode_texts(texts).float().to(image)).tolist()


def logits(model: Backbone, pictures: Pictures, picture: Picture, texts: Sequence[str]) -> list[float]:
    """The model's own logits of a photograph and each text."""
    scale, bias = model.model.logit_scale.exp().item(), getattr(model.model, "logit_bias", None)
    return [
        scale * cosine + (0 if bias is None else bias.item()) for cosine in cosines(model, pictures, picture, texts)
    ]


def probabilities(model: Backbone, pictures: Pictures, picture: Picture, texts: Sequence[str]) -> list[float]:
    """How the logits are shared between the texts."""
    return torch.tensor(logits(model, pictures, picture, texts)).softmax(0).tolist()


def seeded_means(model: Backbone, pictures: Pictures, side: int, drawn: Sequence[int]) -> list[float]:
    """Mean over channels of the unit embeddings of a drawn image and of drawn tokens; no photograph is needed.

    The source draws images of all the sizes `drawn` first, and the tokens after them.
    """
    generator = torch.Generator().manual_seed(0)
    images = {size: torch.randn(1, 3, size, size, generator=generator) for size in drawn}
    tokens = torch.randint(0, 49408, (1, 77), generator=generator).to(model.device)
    embeddings = own_code.encode_image(model, images[side]), model.model.encode_text(tokens)
    return [F.normalize(embedding.float(), dim=-1).mean().item() for embedding in embeddings]


def photograph_cosines(model: Backbone, pictures: Pictures, stored: str, sha256: Mapping[str, str]) -> list[float]:
    """The smallest cosine of published embeddings and those of the same photographs."""
    known = array(stored)
    images = torch.cat([_prepared(model, pictures, {"name": name, "sha256": sha256[name]}) for name in known["names"]])
    published = torch.from_numpy(known["embeddings"]).float().to(model.device)  # (photographs, E)
    return [F.cosine_similarity(own_code.encode_image(model, images), published).min().item()]


def final_tokens(
    model: Backbone, pictures: Pictures, picture: Picture, tokens: int, first: int, start: int = 0
) -> list[float]:
    """The first channels of a few tokens after the last norm."""
    states = own_code.final_tokens(model, _prepared(model, pictures, picture))[0]
    return states[start : start + tokens, :first].flatten().tolist()


def register_means(model: Backbone, pictures: Pictures, stored: str) -> list[float]:
    """The smallest cosine, over layers and registers, of published mean features and those of natural photographs."""
    published = torch.from_numpy(array(stored)["means"]).float()  # (layers, registers, D)
    images = torch.stack([model.transform()(image) for image in pictures.natural()])
    inputs = [seen.x for seen in model.block_inputs(images).values()]
    after = [*inputs[1:], model.blocks[-1].forward(inputs[-1])]  # a block's output is the next one's input
    means = torch.stack([x[:, 1 : 1 + published.shape[1]].float().mean(0).cpu() for x in after])
    return [F.cosine_similarity(means, published, dim=-1).min().item()]


def nearest_names(model: Backbone, pictures: Pictures, stored: str) -> list[float]:
    """How many class names have the published vector of the same name as their nearest one."""
    known = array(stored)
    vectors = torch.from_numpy(known["vectors"]).float().to(model.device)  # (C, E)
    own = embed(model, known["names"].tolist()).embeddings
    return [float((own @ vectors.T).argmax(1).eq(torch.arange(len(own), device=own.device)).sum())]


def _prepared(model: Backbone, pictures: Pictures, picture: Picture) -> Tensor:
    """A picture as its source prepared it, by default with the model's own transform, (1, 3, H, W)."""
    image = pictures.named(picture["name"], picture.get("sha256", ""))
    if "resize" not in picture:
        return model.transform()(image)[None]
    interpolation = pixels.InterpolationMode(picture["interpolation"])
    on: Image.Image | Tensor = (
        pixels.to_dtype(pixels.to_image(image), scale=True) if picture.get("on_tensor") else image
    )
    resized = pixels.resize(on, picture["resize"], interpolation, antialias=True)
    if "crop" in picture:
        resized = pixels.center_crop(resized, picture["crop"])
    tensor = resized if isinstance(resized, Tensor) else pixels.to_dtype(pixels.to_image(resized), scale=True)
    return model.normalize(tensor)[None]


CHECKS: dict[str, Callable[..., list[float]]] = {
    check.__name__: check
    for check in (
        image_embedding,
        text_embedding,
        cosines,
        logits,
        probabilities,
        seeded_means,
        photograph_cosines,
        final_tokens,
        register_means,
        nearest_names,
        zero_shot.imagenet_top1,
        collapse.last_entropies,
        collapse.growth_of_maximum,
        collapse.smallest_entropy,
        collapse.middle_maximum,
        own_code.identity,
        own_code.library_tokens,
        own_code.library_features,
    )
}
