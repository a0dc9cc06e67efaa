"""Confusion matrix → intersection over union, its mean, pixel accuracy."""

import numpy as np

ATTRS = {  # what a Dataset says of each score
    "iou": {"long_name": "intersection over union", "units": "%"},
    "miou": {"long_name": "mIoU", "units": "%"},
    "pixel_accuracy": {"long_name": "pixel accuracy", "units": "%"},
    "intersection": {"long_name": "intersection", "units": "pixels"},
    "union": {"long_name": "union", "units": "pixels"},
}


def iou_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """What follows from confusion matrices (…, true, predicted) in pixels.

    Returns intersection, union (…, classes) in pixels; iou (…, classes), miou and pixel_accuracy (…) in percent. The IoU of a
    class that is neither in the labels nor predicted is NaN; the mean leaves it out (paper §4 of the protocol).

    >>> {name: value.round(1).tolist() for name, value in iou_scores(np.array([[3, 1], [0, 4]])).items()}
    {'iou': [75.0, 80.0], 'intersection': [3.0, 4.0], 'union': [4.0, 5.0], 'miou': 77.5, 'pixel_accuracy': 87.5}
    """
    counts = confusion.astype(np.float64)
    intersection, union = np.moveaxis(areas(counts), -2, 0)
    iou, miou = iou_of(intersection, union)
    total = counts.sum((-2, -1))
    hits = np.asarray(intersection.sum(-1))
    return {
        "iou": iou,
        "intersection": intersection,
        "union": union,
        "miou": miou,
        "pixel_accuracy": 100 * np.divide(hits, total, out=np.full_like(hits, np.nan), where=np.asarray(total > 0)),
    }


def areas(confusion: np.ndarray) -> np.ndarray:
    """Intersection and union of every class from confusion matrices, (…, true, predicted) → (…, 2, classes), in pixels.

    >>> areas(np.array([[3, 1], [0, 4]])).tolist()
    [[3, 4], [4, 5]]
    """
    intersection = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([intersection, confusion.sum(-1) + confusion.sum(-2) - intersection], -2)


def iou_of(intersection: np.ndarray, union: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU (…, classes) and mIoU (…) in percent, from intersection and union (…, classes) in pixels."""
    iou = 100 * np.divide(intersection, union, out=np.full_like(union, np.nan), where=union > 0)
    return iou, _mean(iou)


def _mean(iou: np.ndarray) -> np.ndarray:
    """The mean over classes that occur, NaN if none does."""
    there = ~np.isnan(iou)
    total, count = np.where(there, iou, 0).sum(-1), np.asarray(there.sum(-1))
    return np.divide(total, count, out=np.full_like(np.asarray(total), np.nan), where=count > 0)
