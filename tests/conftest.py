import os
import sys

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

settings.register_profile("suite", max_examples=40)  # in every run others, so that many runs see many
settings.load_profile("suite")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share two cores


@pytest.fixture(autouse=True)
def figures_closed():
    """Figures that a test leaves open are closed after it."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


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


@pytest.fixture(scope="session")
def build():
    """Name → the family's own image tower at random; open_clip's text towers are cut down, they are not looked at."""
    import open_clip

    import clearclip
    from clearclip.models.load import resolve

    def model(name):
        if name.startswith("blip"):
            pytest.importorskip("transformers", reason="BLIP is an optional extra")
        architecture = resolve(name)
        with pytest.MonkeyPatch.context() as patch:
            if architecture.startswith("open_clip:"):
                arch = architecture.removeprefix("open_clip:").partition("/")[0]
                config = open_clip.get_model_config(arch)
                text = config["text_cfg"] | {"layers": 1, "vocab_size": 64}
                patch.setitem(open_clip.factory._MODEL_CONFIGS, arch, config | {"text_cfg": text})
            return clearclip.load(name, random=True, device="cpu")

    return model


@pytest.fixture(scope="module")
def tiny():
    """A vision transformer of 0.4 M parameters that timm has for its own tests."""
    import clearclip

    return clearclip.load("timm:test_vit", random=True, device="cpu")
