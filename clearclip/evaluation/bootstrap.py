"""How sure a mean IoU is, given the pictures it was measured on."""

from __future__ import annotations

import numpy as np

from clearclip.evaluation.scores import iou_of


def interval(
    intersection: np.ndarray, union: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the mIoU in percent, from pictures drawn with replacement.

    Args:
        intersection: of every picture and class, (images, classes), in pixels.
        union: likewise.
        level: the share of the resamples that lies inside.
        resamples: how many times as many pictures are drawn.
        seed: of the drawing.

    Returns:
        Its lower and upper end. With one picture nothing varies, and both are the mIoU.

    >>> areas = np.array([[8, 1], [2, 9]]), np.array([[10, 4], [10, 10]])
    >>> tuple(round(end, 1) for end in interval(*areas))
    (52.5, 60.7)
    """
    images = len(intersection)
    counts = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)  # (R, images)
    drawn = [counts.astype(np.float64) @ areas for areas in (intersection, union)]  # (R, classes)
    miou = iou_of(*drawn)[1]
    low, high = np.nanquantile(miou, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
