"""Zero-shot classification of ImageNet's validation pictures, for those who have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from open_clip import IMAGENET_CLASSNAMES
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from clearclip.models.backbone import Backbone
from clearclip.pictures import read_image
from clearclip.segmentation.text import embed
from clearclip.verification.own_code import encode_image
from clearclip.verification.pictures import Missing, Pictures

CLASSES = 1000


def imagenet_top1(model: Backbone, pictures: Pictures, pictures_due: int = 50000) -> list[float]:
    """Top-1 accuracy in percent, with the 80 templates."""
    if pictures.imagenet is None:
        raise Missing("ImageNet's validation pictures: name their folder with --imagenet")
    data = ImageFolder(str(pictures.imagenet), model.transform(), loader=read_image)
    if len(data.classes) != CLASSES or len(data) != pictures_due:
        raise Missing(f"{pictures.imagenet} has {len(data)} pictures in {len(data.classes)} folders, not 50000 in 1000")
    # two of the names are the same word, which `embed` refuses: a crane is a bird and a machine, a maillot two suits
    rows = torch.cat([embed(model, [name]).embeddings for name in IMAGENET_CLASSNAMES])  # (C, E)
    hits = 0
    for images, labels in DataLoader(data, batch_size=64):
        features = F.normalize(encode_image(model, images), dim=-1)
        hits += int((features @ rows.T).argmax(1).cpu().eq(labels).sum())
    return [100 * hits / len(data)]
