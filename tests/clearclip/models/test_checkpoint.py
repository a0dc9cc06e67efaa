import hashlib
import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from analysis.probes.probe import Probe
from clearclip import load
from clearclip.errors import UserError
from clearclip.models.checkpoint import read_state_dict
from clearclip.models.weights import fingerprint

TINY = "timm:test_vit"


@pytest.fixture(scope="module")
def state(tiny):
    return {key: value.clone() for key, value in load(TINY, random=True, seed=5).model.state_dict().items()}


def last_sum(backbone):
    with torch.inference_mode(), Probe(backbone, features=["X_sum"], keep=True) as probe:
        return probe.run(torch.ones(1, 3, 48, 80))[backbone.depth, "X_sum"]


WRITERS = {
    "a.safetensors": save_file,
    "a.pt": torch.save,
    "legacy.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "wrapped.pt": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    "model.bin": lambda state, path: torch.save({"model": state}, path),
    "parallel.pt": lambda state, path: torch.save(
        {"state_dict": {f"module.{key}": value for key, value in state.items()}}, path
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_checkpoint_round_trip(tmp_path, state, tiny, name):
    WRITERS[name](state, tmp_path / name)
    backbone = load(TINY, checkpoint=tmp_path / name, device="cpu")
    assert fingerprint(backbone.model) == load(TINY, random=True, seed=5, device="cpu").weights.sha256
    assert torch.equal(last_sum(backbone), last_sum(load(TINY, random=True, seed=5, device="cpu")))
    assert not torch.equal(last_sum(backbone), last_sum(tiny))
    assert backbone.weights.name == name and not backbone.weights.random


def test_a_checkpoint_is_named_by_the_digest_of_its_file(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    weights = load(TINY, checkpoint=str(tmp_path / "a.safetensors")).weights
    assert weights.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


def test_a_float16_checkpoint_becomes_a_float32_model(tmp_path, state):
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(halves, tmp_path / "half.safetensors")
    loaded = load(TINY, checkpoint=tmp_path / "half.safetensors", device="cpu").model.state_dict()
    assert all(
        torch.equal(loaded[key], value.float()) and loaded[key].dtype == torch.float32
        for key, value in halves.items()
        if value.is_floating_point()
    )


def test_keys_that_do_not_fit_are_named(tmp_path, state):
    first = next(iter(state))
    cases = {
        "missing": {key: value for key, value in state.items() if key != "norm.weight"},
        "unexpected": state | {"norm.wight": torch.zeros(3)},
        "of another shape": state | {first: torch.zeros(7, 7)},
    }
    keys = {"missing": "norm.weight", "unexpected": "norm.wight", "of another shape": rf"{first} \(7, 7\)"}
    for what, content in cases.items():
        save_file(content, tmp_path / "a.safetensors")
        with pytest.raises(UserError, match=rf"a\.safetensors.*1 {what}: {keys[what]}"):
            load(TINY, checkpoint=tmp_path / "a.safetensors")


def test_all_misfits_are_told_at_once(tmp_path, state):
    content = {key: value for key, value in state.items() if key != "norm.weight"} | {"extra": torch.zeros(1)}
    save_file(content, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"1 missing: norm\.weight; 1 unexpected: extra"):
        load(TINY, checkpoint=tmp_path / "a.safetensors")


def test_weights_of_another_model_are_refused(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="does not hold the weights"):
        load("dino_vits16", checkpoint=tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt", "."])
def test_a_checkpoint_that_is_no_file(tmp_path, name):
    with pytest.raises(UserError, match="no such checkpoint file"):
        load(TINY, checkpoint=tmp_path / name)


class Malicious:
    """A pickle that would make a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_never_runs(tmp_path, state, legacy):
    ran = tmp_path / "ran"
    for content in (
        Malicious(ran),
        {"state_dict": state, "hook": Malicious(ran)},
        state | {"norm.weight": Malicious(ran)},
    ):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match="weights only"):
            load(TINY, checkpoint=tmp_path / "a.pt")
        assert not ran.exists()
    torch.load(tmp_path / "a.pt", weights_only=False)  # the file does what it says where it is trusted
    assert ran.is_dir()


def test_a_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(UserError, match="weights only"):
        load(TINY, checkpoint=tmp_path / "a.pt")


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        {"a": torch.zeros(3), "epoch": 3},
        {0: torch.zeros(3)},
        5,
        None,
    ],
    ids=["tensor", "list", "mixed", "numbered", "number", "none"],
)
def test_a_checkpoint_of_anything_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt"):
        load(TINY, checkpoint=tmp_path / "a.pt")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no weights\n" * 9,
        lambda data: data[: len(data) // 2],
        lambda data: data[:20],
        lambda data: data[:8] + b"\xff" * 40 + data[48:],
        lambda data: b"\xff" * 8 + data[8:],
    ],
    ids=["empty", "text", "half", "header", "changed", "length"],
)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_a_damaged_checkpoint_is_refused(tmp_path, state, name, damage):
    WRITERS[name](state, tmp_path / name)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        load(TINY, checkpoint=tmp_path / name)


@settings(max_examples=100, deadline=None, database=None)
@given(data=st.binary(max_size=120), suffix=st.sampled_from([".pt", ".safetensors"]))
def test_random_bytes_are_no_checkpoint(tmp_path_factory, data, suffix):
    path = tmp_path_factory.getbasetemp() / f"noise{suffix}"
    path.write_bytes(data)
    with pytest.raises(UserError, match="noise"):
        read_state_dict(path)


def test_a_safetensors_header_of_a_wrong_type(tmp_path):
    header = json.dumps({"a": {"dtype": "NO", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match="safetensors"):
        load(TINY, checkpoint=tmp_path / "a.safetensors")
