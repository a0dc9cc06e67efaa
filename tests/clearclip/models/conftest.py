import open_clip
import pytest

from clearclip import load
from clearclip.models.load import resolve


@pytest.fixture(scope="session")
def build():
    return _build


def _build(name):
    """The family's own image tower at random; open_clip's text towers are cut down, they are not looked at here."""
    if name.startswith("blip"):
        pytest.importorskip("transformers", reason="BLIP is an optional extra")
    architecture = resolve(name)
    with pytest.MonkeyPatch.context() as patch:
        if architecture.startswith("open_clip:"):
            arch = architecture.removeprefix("open_clip:").partition("/")[0]
            config = open_clip.get_model_config(arch)
            text = config["text_cfg"] | {"layers": 1, "vocab_size": 64}
            patch.setitem(open_clip.factory._MODEL_CONFIGS, arch, config | {"text_cfg": text})
        return load(name, random=True, device="cpu")


@pytest.fixture(scope="module")
def tiny():
    """A vision transformer of 0.4 M parameters that timm has for its own tests."""
    return load("timm:test_vit", random=True, device="cpu")
