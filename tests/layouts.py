"""Small folders in the layout of each benchmark, with one picture whose label has the raw ids that are given."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SHARED = Path(__file__).parents[1] / "../shared/data"


def shared(name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not in {SHARED}")
    return SHARED / name


def write(path, pixels, mode=None):
    """A picture or label file of these pixels; a palette one for mode P."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.save(path)


def photo(path, width, height=2):
    write(path, np.full((height, width, 3), 90))


def lines(path, *names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


def voc(root, raw, mode="P"):
    base = root / "VOCdevkit/VOC2012"
    lines(base / "ImageSets/Segmentation/val.txt", "2007_000033")
    photo(base / "JPEGImages/2007_000033.jpg", len(raw))
    write(base / "SegmentationClass/2007_000033.png", [raw, raw], mode)
    return root


def context_png(root, raw):
    base = root / "VOCdevkit/VOC2010"
    lines(base / "ImageSets/SegmentationContext/val.txt", "2008_000002")
    photo(base / "JPEGImages/2008_000002.jpg", len(raw))
    write(base / "SegmentationClassContext/2008_000002.png", [raw, raw])
    return root


def context_mat(root, raw):
    base = root / "VOCdevkit/VOC2010"
    lines(base / "ImageSets/Main/val.txt", "2008_000002")
    photo(base / "JPEGImages/2008_000002.jpg", len(raw))
    (base / "trainval").mkdir()
    savemat(base / "trainval/2008_000002.mat", {"LabelMap": np.array([raw, raw], np.uint16)})
    return root


def coco(root, raw, images="images/val2017", labels="annotations/val2017"):
    photo(root / images / "000000000139.jpg", len(raw))
    write(root / labels / "000000000139.png", [raw, raw])
    write(root / labels / "000000000139_labelTrainIds.png", [raw, raw])  # a converter's, not to be taken for a label
    return root


def cityscapes(root, raw, kind="labelIds"):
    photo(root / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png", len(raw))
    write(root / f"gtFine/val/ulm/ulm_000000_000019_gtFine_{kind}.png", [raw, raw])
    return root


def camvid(root, raw, split="val"):
    write(root / f"CamVid/{split}/0016E5_07959.png", np.full((2, len(raw), 3), 90))
    write(root / f"CamVid/{split}annot/0016E5_07959.png", [raw, raw])
    return root


def ade20k(root, raw):
    base = root / "ADEChallengeData2016"
    photo(base / "images/validation/ADE_val_00000001.jpg", len(raw))
    write(base / "annotations/validation/ADE_val_00000001.png", [raw, raw])
    return root


def folder(root, raw, *classes):
    photo(root / "images/a.jpg", len(raw))
    write(root / "labels/a.png", [raw, raw])
    lines(root / "classes.txt", *classes)
    return root
