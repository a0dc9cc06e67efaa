"""A random CLIP stands in for a published one: its numbers were recorded, and each way of loading it wrongly is caught."""

import json
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from commands import here
from PIL import Image

import clearclip
from clearclip.verification import collapse, expectations
from clearclip.verification.expectations import Expectation
from clearclip.verification.pictures import Pictures
from clearclip.verification.run import verify

PICTURE = {"picture": {"name": "bands"}}
TEXTS = ["a photo of a man", "a photo of a woman"]
RECORDED = {  # check → what it is called with, and what it gave
    "image_embedding": ({**PICTURE, "first": 3}, (-0.107116, 0.856487, -0.336615, 8.089769)),
    "text_embedding": ({"text": TEXTS[0], "first": 3}, (0.231822, -3.910175, 2.971724, -6.191962)),
    "logits": ({**PICTURE, "texts": TEXTS}, (-3.876959, -4.153906)),
    "probabilities": ({**PICTURE, "texts": TEXTS}, (0.568798, 0.431202)),
    "seeded_means": ({"side": 32, "drawn": [32, 64]}, (0.076260, 0.059902)),
    "final_tokens": ({**PICTURE, "tokens": 2, "first": 2}, (1.495424, 0.245744, 1.226088, 0.225481)),
    "identity": ({}, (0.0, 0.0)),
    "library_tokens": ({}, (0.0,)),
    "library_features": ({}, (0.0,)),
}
KNOWN = [
    Expectation(check, check, expected, 1e-4, "recorded", given=given) for check, (given, expected) in RECORDED.items()
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One picture of colored bands."""
    folder = tmp_path_factory.mktemp("reference") / "deep"
    folder.mkdir()
    rows, columns = np.mgrid[0:50, 0:70]
    bands = np.stack([5 * rows, 3 * columns, (rows * columns) % 256], -1)
    Image.fromarray(bands.astype(np.uint8)).save(folder / "bands.png")
    return Pictures(folder.parent)


@pytest.fixture
def model(tiny_clip):
    return clearclip.load(tiny_clip, random=True, device="cpu")


def verdicts(model, pictures):
    rows = verify(model, pictures, KNOWN)
    return {row.what: row.verdict for row in rows}


def disagreeing(model, pictures):
    return {check for check, verdict in verdicts(model, pictures).items() if verdict == "DISAGREES"}


def test_the_recorded_model_agrees_in_every_row(model, pictures):
    assert set(verdicts(model, pictures).values()) == {"agrees"}


@pytest.mark.parametrize("part", ["visual.transformer.resblocks.1.mlp.c_fc.weight", "token_embedding.weight"])
def test_a_wrong_weight_is_caught(model, pictures, part):
    model.model.get_parameter(part).data.mul_(1.05)
    caught = disagreeing(model, pictures)
    assert "logits" in caught
    assert ("image_embedding" in caught) == part.startswith("visual") != ("text_embedding" in caught)


def test_a_gelu_in_place_of_quickgelu_is_caught(model, pictures, tiny_clip, monkeypatch):
    config = open_clip.get_model_config("tiny") | {"quick_gelu": False}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    other = clearclip.load(tiny_clip, random=True, device="cpu")
    other.model.load_state_dict(model.model.state_dict())
    assert {"image_embedding", "text_embedding", "logits", "seeded_means"} <= disagreeing(other, pictures)


def test_wrong_mean_and_std_are_caught(model, pictures):
    wrong = replace(model, preprocessing=model.preprocessing | {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)})
    assert disagreeing(wrong, pictures) == {"image_embedding", "logits", "probabilities", "final_tokens"}


def test_swapped_channels_are_caught(model, pictures):
    kernels = model.vit.conv1.weight
    kernels.data = kernels.data.flip(1).contiguous()
    assert {"image_embedding", "logits", "final_tokens", "seeded_means"} <= disagreeing(model, pictures)


def test_a_changed_residual_stream_is_caught(model, pictures):
    model.vit.transformer.resblocks[0].ln_2.register_forward_pre_hook(lambda module, args: (args[0] * 1.001,))
    assert "identity" in disagreeing(model, pictures)


def test_pictures_that_are_not_there_or_others_are_skipped_by_name(model, pictures, tmp_path):
    assert set(verdicts(model, Pictures()).values()) == {"agrees", "skipped"}
    rows = verify(model, Pictures(), [known for known in KNOWN if known.check == "image_embedding"])
    assert rows[0].why == "picture bands is not there: name its folder with --pictures"
    given = {"picture": {"name": "bands", "sha256": "0" * 64}, "first": 3}
    other = Expectation("image_embedding", "embedding", (0.0,), 1e-3, "recorded", given=given)
    assert "another picture than the published one" in verify(model, pictures, [other])[0].why


@pytest.mark.parametrize("name", ["siglip2_vitb16", "blip_vitb16", "dinov2_vits14_reg"])
def test_any_family_equals_its_librarys_own_code(name, build, monkeypatch):
    model = build(name)
    monkeypatch.setattr(type(model), "image_size", 4 * model.patch_size)  # small pictures are enough
    assert {row.verdict for row in verify(model, known=expectations.of("zoo:clip_tiny"))} <= {"agrees", "skipped"}


def test_published_numbers_are_complete():
    assert len(expectations.models()) == 14
    for model, known in expectations.everything():
        clearclip.models.load.resolve("clip_tiny" if model == "*" else model)
        assert known.check in clearclip.verification.checks.CHECKS and known.rule in expectations.RULES
        assert known.source and known.expected and known.tolerance >= 0


def test_the_papers_entropies_of_a_known_map():
    x = torch.zeros(14, 64)
    x[3, 5] = 1000
    assert collapse.entropy(torch.ones(14, 64)) == pytest.approx(1) and collapse.entropy(x) == 0


def test_claims_about_the_last_layer_are_measured(pictures):
    model = clearclip.load("clip_tiny")
    means = collapse.measured(model, pictures)
    assert means["entropy"].shape == (6, 3) and ((means["entropy"] >= 0) & (means["entropy"] <= 1)).all()
    residual, lacking = collapse.last_entropies(model, pictures)
    assert residual == means["entropy"][-1, 0] and lacking == 1 - means["entropy"][-1, 1]


# the command ------------------------------------------------------------------------------------------------------------


def test_the_command_prints_rows_and_writes_a_report(tmp_path):
    done = here("clearclip.verify", "clip_tiny", "dino_tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 agree" in done.stdout and "2 agree, 1 skipped" in done.stdout
    report = json.loads((tmp_path / "results/verify.json").read_text("utf-8"))
    assert [row["verdict"] for row in report["rows"]] == ["agrees"] * 5 + ["skipped"]
    assert len(report["models"]["clip_tiny"]["weights_sha256"]) == 64 and "torch" in report["libraries"]
    page = (tmp_path / "results/verify.md").read_text("utf-8")
    assert "| clip_tiny | agrees |" in page and report["models"]["dino_tiny"]["weights_sha256"] in page


def test_all_models_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(expectations, "models", lambda: ["dino_tiny", "clip_tiny"])
    done = here("clearclip.verify", "--all", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.index("dino_tiny: agrees") < done.stdout.index("clip_tiny: agrees")


def test_a_model_that_cannot_be_had_is_a_row_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    done = here("clearclip.verify", "dino_vits16", "clip_tiny", cwd=tmp_path)
    assert done.returncode == 1
    assert "dino_vits16: could not be loaded" in done.stdout and "3 agree" in done.stdout


def test_a_disagreement_is_exit_code_1_and_a_mistake_2(tmp_path, monkeypatch):
    wrong = Expectation("identity", "never so", (1.0, 0.0), 0.0, "nobody")
    monkeypatch.setattr(expectations, "of", lambda architecture: [wrong])
    done = here("clearclip.verify", "clip_tiny", cwd=tmp_path)
    assert done.returncode == 1 and "DISAGREES" in done.stdout
    for words in ((), ("clip_tiny", "--all"), ("clip_tiny", "--output", "a.txt"), ("clip_tiny", "--pictures", "none")):
        done = here("clearclip.verify", *words, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("error: "), words
