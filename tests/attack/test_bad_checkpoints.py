"""Checkpoints that are damaged, hostile or of something else: refused with a message, and none runs code."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import clean, command
from material import damaged, pictures
from safetensors.torch import save as to_safetensors
from torch import nn

import clearclip
from clearclip.errors import UserError
from clearclip.models.checkpoint import load_checkpoint, read_state_dict
from clearclip.models.load import plan_of

ARCHITECTURE = "timm:test_vit"
WORDS = ("analysis.entropy", "--model", ARCHITECTURE, "--images", "pictures", "--output", "out.nc", "--checkpoint")
DAMAGES = 40


class Hostile:
    """Unpickling it would make a file."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.fixture(scope="module")
def model():
    return clearclip.load(ARCHITECTURE, random=True, device="cpu").model


@pytest.fixture(scope="module")
def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def torch_bytes(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def scripted():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    return file.getvalue()


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        content.writestr("../../owned", "x")
    return file.getvalue()


def numbers():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def each(state, change):
    return {key: change(value) for key, value in state.items()}


REFUSED = {  # a file's name and content, from the right tensors
    "hostile pickle.pt": lambda s: pickle.dumps(Hostile()),
    "hostile torch.pt": lambda s: torch_bytes({"state_dict": s, "more": Hostile()}),
    "hostile list.pth": lambda s: torch_bytes([Hostile()]),
    "hostile safetensors.safetensors": lambda s: pickle.dumps(Hostile()),
    "whole model.pt": lambda s: torch_bytes(nn.Linear(2, 2)),
    "script.pt": lambda s: scripted(),
    "archive.pt": lambda s: archive(),
    "numbers.npy": lambda s: numbers(),
    "empty.pt": lambda s: b"",
    "empty.safetensors": lambda s: b"",
    "text.pt": lambda s: b"weights",
    "text.safetensors": lambda s: b"weights",
    "a list.pt": lambda s: torch_bytes([*s.values()]),
    "a number.pt": lambda s: torch_bytes(3),
    "nothing.pt": lambda s: torch_bytes({}),
    "integer keys.pt": lambda s: torch_bytes(dict(enumerate(s.values()))),
    "huge header.safetensors": lambda s: (2**62).to_bytes(8, "little") + b"{}",
    "deep header.safetensors": lambda s: (200_000).to_bytes(8, "little") + b"[" * 200_000,
    "header of lies.safetensors": lambda s: (lambda h: len(h).to_bytes(8, "little") + h)(
        b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    ),
    "one missing.safetensors": lambda s: to_safetensors(dict(list(s.items())[1:])),
    "one more.safetensors": lambda s: to_safetensors({**s, "more": torch.zeros(1)}),
    "other shape.safetensors": lambda s: to_safetensors(each(s, lambda t: torch.zeros(*t.shape, 2))),
    "integers.safetensors": lambda s: to_safetensors(each(s, lambda t: t.to(torch.int32))),
    "booleans.safetensors": lambda s: to_safetensors(each(s, lambda t: t > 0)),
    "complex.pt": lambda s: torch_bytes(each(s, lambda t: t.to(torch.complex64))),
    "meta.pt": lambda s: torch_bytes(each(s, lambda t: t.to("meta"))),
    "sparse.pt": lambda s: torch_bytes(each(s, lambda t: t.to_sparse())),
    "quantized.pt": lambda s: torch_bytes(each(s, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8))),
    "not a number.safetensors": lambda s: to_safetensors(each(s, lambda t: torch.full_like(t, torch.nan))),
    "infinite.safetensors": lambda s: to_safetensors(each(s, lambda t: torch.full_like(t, torch.inf))),
    "large.safetensors": lambda s: to_safetensors(each(s, lambda t: torch.full_like(t, 3e38))),
}
USED = {
    "right.safetensors": lambda s: to_safetensors(s),
    "right.pt": lambda s: torch_bytes(s),
    "wrapped.pt": lambda s: torch_bytes({"state_dict": s, "epoch": 3}),
    "half.safetensors": lambda s: to_safetensors(each(s, lambda t: t.half())),
}


@pytest.mark.parametrize("name", [*REFUSED, *USED])
def test_a_checkpoint_through_a_command(name, state, cwd):
    pictures(cwd / "pictures", 2)
    (cwd / name).write_bytes((REFUSED | USED)[name](state))
    clean(command(*WORDS, name, cwd=cwd), (2,) if name in REFUSED else (0,))
    assert not list(cwd.parent.rglob("owned*"))


@pytest.mark.parametrize("name", ["nowhere.pt", ".", "/dev/null", "/dev/zero", "pipe.pt", "loop.pt", ""])
def test_no_checkpoint_at_all(name, cwd):
    pictures(cwd / "pictures", 2)
    os.mkfifo(cwd / "pipe.pt")
    (cwd / "loop.pt").symlink_to("loop.pt")
    clean(command(*WORDS, name, cwd=cwd), (2,))


@pytest.mark.parametrize("end", ["pt", "safetensors"])
def test_damaged_checkpoints_are_refused_or_hold_tensors(end, state, model, tmp_path, monkeypatch, record_property):
    """Through the function that reads all checkpoints; a flipped byte of a weight cannot be noticed."""
    monkeypatch.chdir(tmp_path)
    plan = plan_of(ARCHITECTURE)
    content = to_safetensors(state) if end == "safetensors" else torch_bytes(state)
    for name, data in damaged(content, 5, DAMAGES):
        path = Path(f"{name}.{end}")
        path.write_bytes(data)
        try:
            load_checkpoint(model, path, ARCHITECTURE, plan)
        except UserError as error:
            assert path.name in str(error)
    record_property("cases", DAMAGES)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call", [(os.mkdir, ("owned",)), (os.system, ("mkdir owned",)), (eval, ("1",)), (exec, ("1",))]
)
def test_pickles_that_call_something(protocol, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Calls:
        def __reduce__(self):
            return call

    Path("hostile.pt").write_bytes(pickle.dumps({"weight": Calls()}, protocol))
    with pytest.raises(UserError, match=r"hostile\.pt"):
        read_state_dict(Path("hostile.pt"))
    assert not Path("owned").exists()
