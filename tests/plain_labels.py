"""The protocol word for word, which labels are compared with: every map at full size, softmax over all names, the best class."""

import torch
import torch.nn.functional as F

ROUNDING = 1e-5  # by which scores of one pixel may differ, as a few sums are taken in another order


def plain_scores(logits, size, owner, scale=50.0):
    """Scores of every class at every pixel, (C, H, W)."""
    maps = F.interpolate(logits.maps()[None], size=size, mode="bilinear", align_corners=False)[0]
    names = (scale * maps).softmax(0)
    return torch.stack([names[owner == i].amax(0) for i in range(int(owner.max()) + 1)])


def plain_labels(scores, threshold=0.0):
    """The class of the highest score, class 0 where that is below the threshold, (H, W)."""
    return torch.where(scores.amax(0) < threshold, 0, scores.argmax(0)) if threshold else scores.argmax(0)


def same_labels(labels, scores, threshold=0.0):
    """Whether labels (H, W) are those of the scores (C, H, W), but where scores are equal to five digits."""
    best = scores.amax(0)
    tied = scores.gather(0, labels[None])[0] > best - ROUNDING
    tied &= (best >= threshold - ROUNDING) if threshold else True
    below = (labels == 0) & (best < threshold + ROUNDING) if threshold else torch.zeros_like(tied)
    return labels.shape == best.shape and bool((tied | below).all())
