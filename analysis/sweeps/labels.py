"""What tables and figures call methods and data sets."""

from __future__ import annotations

from collections.abc import Sequence

METHOD_LABEL = {
    "clip": "CLIP",
    "maskclip": "MaskCLIP",
    "clip_surgery": "CLIPSurgery",
    "sclip": "SCLIP",
    "gem": "GEM",
    "clearclip": "ClearCLIP",
    "maskclip+clearclip": "MaskCLIP + ClearCLIP",
    "sclip+clearclip": "SCLIP + ClearCLIP",
    "gem+clearclip": "GEM + ClearCLIP",
    "naclip": "NACLIP",
    "segearth_ov": "SegEarth-OV",
    "resclip": "ResCLIP (in part)",
    "proxyclip": "ProxyCLIP",
}
DATASET_LABEL = {
    "voc20": "VOC20",
    "voc21": "VOC21",
    "context59": "Context59",
    "context60": "Context60",
    "coco_object": "COCO-Object",
    "coco_stuff": "COCO-Stuff",
    "cityscapes": "Cityscapes",
    "ade20k": "ADE20K",
    "scenes_background": "scenes with\nbackground",
}


def method_label(name: str) -> str:
    """A recipe as a reader knows it.

    >>> method_label("clearclip"), method_label("mine")
    ('ClearCLIP', 'mine')
    """
    return METHOD_LABEL.get(name, name)


def dataset_label(name: str) -> str:
    """A data set as a reader knows it.

    >>> dataset_label("coco_stuff"), dataset_label("mine")
    ('COCO-Stuff', 'mine')
    """
    return DATASET_LABEL.get(name, name)


def mean_label(names: Sequence[str]) -> str:
    """Which data sets were averaged, short enough for an axis; the caption names them all.

    >>> mean_label(["voc20"]), mean_label(["voc20", "ade20k"])
    ('VOC20', 'mean of 2 datasets')
    """
    return dataset_label(names[0]).replace("\n", " ") if len(names) == 1 else f"mean of {len(names)} datasets"
