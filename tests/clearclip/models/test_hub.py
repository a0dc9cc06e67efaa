"""The libraries' own way to weights, against a local cache that is laid out as the hub's own."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys

import huggingface_hub
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from clearclip.errors import UserError
from clearclip.models.hub import fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {  # short name: repository on the hub, and the file that the library asks for first
    "dino_vits16": ("timm/vit_small_patch16_224.dino", "model.safetensors"),
    "dinov3_vits16": ("timm/vit_small_patch16_dinov3.lvd1689m", "model.safetensors"),
    "clip_vitb32": ("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors"),
    "eva02_clip_vitb16": ("timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k", "open_clip_model.safetensors"),
    "blip_vitb16": ("Salesforce/blip-itm-base-coco", "model.safetensors"),
}

BLIP = importlib.util.find_spec("transformers") is not None

LOAD = """
import json, sys, time
import open_clip, timm, torch  # here, so that what is timed is the asking and not the importing
from safetensors.torch import load_file
from clearclip import UserError, load

for name, path in json.loads(sys.argv[1]).items():
    answer = {"name": name}
    began = time.perf_counter()
    try:
        backbone = load(name, device="cpu")
    except UserError as error:
        answer |= {"error": str(error), "seconds": time.perf_counter() - began}
    else:
        state, written = backbone.model.state_dict(), load_file(path)
        answer |= {
            "keys": sorted(state.keys() ^ written.keys()),
            "different": [key for key in written if key in state and not torch.equal(state[key], written[key])],
            "count": len(written), "random": backbone.weights.random, "sha256": backbone.weights.sha256,
            "weights": backbone.weights.name, "size": backbone.image_size,
        }
        own = getattr(getattr(backbone.model, "visual", None), "preprocess_cfg", None)
        if own is not None:
            answer["preprocessing"] = all(backbone.preprocessing[key] == value or
                                          list(backbone.preprocessing[key]) == list(value)
                                          for key, value in own.items() if key != "size")
    print("ANSWER", json.dumps(answer))
"""


def tiny_blip():
    import transformers

    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = shape | {"encoder_hidden_size": 64, "vocab_size": 200}
    config = transformers.BlipConfig(vision_config=shape | {"image_size": 96}, text_config=text)
    config.architectures = ["BlipForImageTextRetrieval"]
    return transformers.BlipForImageTextRetrieval(config)


def shapes(name):
    """The true keys and shapes of a model, without making its weights."""
    with torch.device("meta"):
        if name.startswith("blip"):
            return tiny_blip().state_dict()
        if name.startswith("dino"):
            return timm.create_model(FILES[name][0].removeprefix("timm/")).state_dict()
        arch = {"clip_vitb32": "ViT-B-32-quickgelu", "eva02_clip_vitb16": "EVA02-B-16"}[name]
        return open_clip.create_model(arch, device="meta").state_dict()


def fill(cache, name):
    """Write random weights to where the hub's client would have put them; returns the file."""
    repository, file = FILES[name]
    folder = cache / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for path in (folder / "refs", folder / "blobs", snapshot):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(value.shape, generator=generator) for key, value in shapes(name).items()}
    save_file(state, folder / "blobs" / name, metadata={"format": "pt"})
    (snapshot / file).symlink_to(f"../../blobs/{name}")
    if name.startswith("blip"):
        (snapshot / "config.json").write_text(tiny_blip().config.to_json_string())
    return folder / "blobs" / name


def run(models, home, **environment):
    """`load` in a fresh process, as a user would; the answers by name."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("HF_", "HUGGINGFACE_", "TRANSFORMERS_")) and not key.lower().endswith("_proxy")
    }
    result = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps({name: str(path) for name, path in models.items()})],
        env=kept | {"HF_HOME": str(home), "TORCH_HOME": str(home / "torch"), "XDG_CACHE_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    answers = [json.loads(line.removeprefix("ANSWER ")) for line in result.stdout.splitlines() if "ANSWER " in line]
    return {answer["name"]: answer for answer in answers}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    yield folder
    shutil.rmtree(folder)  # more than a gigabyte, which pytest would keep for three runs


@pytest.fixture(scope="module")
def written(home):
    return {name: fill(home, name) for name in FILES if name != "blip_vitb16" or BLIP}


@pytest.fixture(scope="module")
def offline(written, home):
    return run(written | {"mae_vitb16": home}, home, HF_HUB_OFFLINE="1")


def check(answer):
    assert "error" not in answer, answer["error"]
    assert answer["keys"] == [] and answer["different"] == [] and answer["count"] > 30
    assert answer["random"] is False and len(answer["sha256"]) == 64


@pytest.mark.parametrize("name", FILES)
def test_cached_weights_are_loaded_offline(offline, name):
    if name == "blip_vitb16" and not BLIP:
        pytest.skip("BLIP is an optional extra")
    check(offline[name])


@pytest.mark.parametrize("name", ["clip_vitb32", "eva02_clip_vitb16"])
def test_preprocessing_is_what_open_clip_sets_for_these_weights(offline, name):
    assert offline[name]["preprocessing"] is True


def test_weights_are_named_after_their_source(offline):
    assert offline["dino_vits16"]["weights"] == "vit_small_patch16_224.dino"
    assert offline["clip_vitb32"]["weights"] == "ViT-B-32-quickgelu/openai"


def test_size_is_that_of_the_cached_configuration(offline):
    pytest.importorskip("transformers", reason="BLIP is an optional extra")
    assert offline["blip_vitb16"]["size"] == 96


def test_offline_and_not_cached(offline):
    answer = offline["mae_vitb16"]
    assert "HF_HOME" in answer["error"] and "--checkpoint" in answer["error"] and answer["seconds"] < 10


@pytest.fixture(params=["closed", "silent"])
def endpoint(request):
    """A hub that refuses connections, and one that accepts them and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "silent":
            server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_hub_out_of_reach(home, written, endpoint):
    """What is cached loads; what is not is told about in seconds, with what to do."""
    models = {"dino_vitb16": home, "metaclip_vitb16": home, "dino_vits16": written["dino_vits16"]}
    answers = run(models, home, HF_ENDPOINT=endpoint)
    for name in ("dino_vitb16", "metaclip_vitb16"):
        assert answers[name]["seconds"] < 10
        for part in (name, "HF_HOME", "--checkpoint", "cannot be reached"):
            assert part in answers[name]["error"]
    check(answers["dino_vits16"])


@pytest.mark.parametrize(
    ("online", "error", "message"),
    [
        (True, OSError("gated\nmore"), r"^x: the weights y could not be loaded: gated$"),
        (True, KeyError(), "could not be loaded: KeyError"),
        (
            False,
            OSError("no route"),
            r"hub cannot be reached \(OSError\)\. Connect once.*HF_HOME.*, or take another\.$",
        ),
        (False, UserError("of its own"), "^of its own$"),
    ],
)
def test_what_cannot_be_fetched(monkeypatch, online, error, message):
    def get():
        raise error

    monkeypatch.setattr("clearclip.models.hub.reachable", lambda: online)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=message):
        fetch(get, "x: the weights y", ", or take another")
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False
