"""The preprocessing of real models, against tensors that their own code made of the same photographs."""

import numpy as np
import pytest
import torch
from layouts import shared

from clearclip.pictures import read_image


@pytest.fixture(scope="module")
def reference():
    folder = shared("clip_reference")
    with np.load(folder / "clip_vitb32_photos.npz") as stored:
        tensors = dict(zip(stored["names"].tolist(), stored["tensors"], strict=True))
    return folder / "photos", tensors | {"franz-kafka": np.load(folder / "franz-kafka_tensor.npy")[0]}


def test_clip_vitb32_prepares_photographs_as_openais_own_code_does(reference, build):
    photos, tensors = reference
    transform = build("clip_vitb32").transform()
    assert len(tensors) == 8
    for name, tensor in tensors.items():
        prepared = transform(read_image(photos / f"{name}.jpg"))
        assert (prepared - torch.from_numpy(tensor)).abs().max() == 0, name
