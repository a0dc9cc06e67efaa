import os

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share two cores


@pytest.fixture
def photos(tmp_path):
    """A folder with nine small pictures of noise, gradients and one colour."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        pixels = rng.integers(0, 256, (40 + i, 60 - i, 3)) if i % 3 else np.full((50, 50, 3), 20 * i)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"photo_{i}.png")
    return folder


@pytest.fixture(scope="session")
def dino():
    import clearclip

    return clearclip.load("dino_vits16", random=True)


@pytest.fixture(scope="module")
def tiny_clip():
    """The name of a small CLIP of open_clip's own code, which is registered as long as a module's tests run."""
    import open_clip

    config = {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
        yield "open_clip:tiny"
