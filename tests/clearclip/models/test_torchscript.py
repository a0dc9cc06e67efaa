"""TorchScript archives: their tensors are read, and nothing else of them ever runs."""

import copyreg
import os
import pickle
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clearclip import load
from clearclip.errors import UserError
from clearclip.models.checkpoint import read_state_dict

SIZES = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}


def archived(module, path, *example):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but its files stay
        torch.jit.save(
            torch.jit.trace(module, example, check_trace=False) if example else torch.jit.script(module), path
        )
    return path


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).half())
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("size", torch.tensor(224))
        self.tied, self.numbers, self.names = self.layers[0].weight, [1, 2], ["a"]
        self.nothing: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[0](x)


@pytest.mark.parametrize("example", [(), (torch.ones(1, 3),)], ids=["scripted", "traced"])
def test_parameters_and_buffers_of_an_archive(tmp_path, example):
    module = Part()
    state = read_state_dict(archived(module, tmp_path / "a.pt", *example))
    assert state.keys() == module.state_dict().keys()
    for key, value in module.state_dict().items():
        assert torch.equal(state[key], value) and state[key].dtype == value.dtype and not state[key].requires_grad


def test_views_and_strides_are_kept(tmp_path):
    module = nn.Module()
    whole = torch.arange(12.0).reshape(3, 4)
    for name, view in {"turned": whole.T, "row": whole[1], "whole": whole}.items():
        module.register_buffer(name, view)
    state = read_state_dict(archived(module, tmp_path / "a.pt"))
    assert torch.equal(state["turned"], whole.T) and torch.equal(state["row"], whole[1])


def test_openais_archive(tmp_path, tiny_clip):
    """As OpenAI published its models: traced, in half precision, with three sizes beside the weights."""
    whole = load(tiny_clip, random=True, device="cpu")
    save_file({key: value.half() for key, value in whole.model.state_dict().items()}, tmp_path / "native.safetensors")
    model = whole.model
    example = torch.zeros(1, 3, 32, 32), torch.ones(1, 77, dtype=torch.int64)
    for name, size in SIZES.items():
        vars(model).pop(name, None)
        model.register_buffer(name, torch.tensor(size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, example, check_trace=False).half()
        torch.jit.save(traced, tmp_path / "ViT-B-16.pt")
    with pytest.warns(UserWarning, match=r"ViT-B-16\.pt: not needed and left out: OpenAI's sizes"):
        ours = load(tiny_clip, checkpoint=tmp_path / "ViT-B-16.pt", device="cpu")
    native = load(tiny_clip, checkpoint=tmp_path / "native.safetensors", device="cpu")
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(ours.last_tokens(pixels), native.last_tokens(pixels))
    assert torch.equal(ours.encode_texts(["a horse"]), native.encode_texts(["a horse"]))


# hostile archives ----------------------------------------------------------------------------------------------------


def rewritten(source, target, compress=False, **entries):
    """An archive with some entries replaced."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            name = info.filename.split("/", 1)[1]
            content = entries.pop(name.replace("/", "_").replace(".", "_"), old.read(info))
            new.writestr(info.filename, content, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    assert not entries
    return target


@pytest.fixture
def archive(tmp_path):
    return archived(Part(), tmp_path / "good.pt")


class Call:
    """A pickle that calls a function when it is loaded."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "function", [os.mkdir, eval, exec, getattr, copyreg._reconstructor, torch.load, torch.ops.load_library]
)
def test_a_name_that_is_not_allowed_is_never_looked_up(tmp_path, archive, function):
    ran = tmp_path / "ran"
    arguments = (str(ran),) if function is os.mkdir else (f"__import__('os').mkdir({str(ran)!r})",)
    try:
        content = pickle.dumps(Call(function, *arguments), protocol=2)
    except (pickle.PicklingError, TypeError):
        content = f"cos\nmkdir\n(V{ran}\ntR.".encode()
    with pytest.raises(UserError, match=r"bad\.pt cannot be loaded as weights only"):
        read_state_dict(rewritten(archive, tmp_path / "bad.pt", data_pkl=content))
    assert not ran.exists()


def test_code_of_the_archive_is_neither_compiled_nor_run(tmp_path, archive):
    """Its source may be anything: only tensors are read."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(tmp_path / "code.pt", "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, b"this is no code" if "/code/" in info.filename else old.read(info))
    good, other = read_state_dict(archive), read_state_dict(tmp_path / "code.pt")
    assert all(torch.equal(good[key], other[key]) for key in good)


STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
HOSTILE = {
    "a tensor beyond its numbers": b"\x80\x02c__torch__\nM\n)\x81}(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
    + STORAGE
    + b"K\x00(M\xff\xfft(K\x01t\x89ccollections\nOrderedDict\n)RtRub.",
    "state that replaces a method": b"\x80\x02c__torch__\nM\n)\x81N}X\x0c\x00\x00\x00__setstate__cos\nsystem\ns\x86b.",
    "state for one of our own functions": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x04\x00\x00\x00evilK\x01s\x86b.",
    "a module within itself": b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb.",
    "no module": b"\x80\x02K\x01.",
    "cut off": b"\x80\x02c__torch__\nM\n)",
    "an extension": b"\x80\x02\x82\x01.",
    "nothing": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_is_refused(tmp_path, archive, content):
    with pytest.raises(UserError, match=r"bad\.pt"):
        read_state_dict(rewritten(archive, tmp_path / "bad.pt", data_pkl=content))


def test_one_file_does_not_change_what_the_next_one_gets(tmp_path, archive):
    """State that is put on a class of the archive stays with that reading."""
    content = b"\x80\x02c__torch__\nM\nN}X\x0c\x00\x00\x00__setstate__ctorch.jit._pickle\nbuild_intlist\ns\x86b."
    with pytest.raises(UserError):
        read_state_dict(rewritten(archive, tmp_path / "bad.pt", data_pkl=content))
    assert len(read_state_dict(archive)) == len(Part().state_dict())


def test_compressed_numbers_are_refused(tmp_path, archive):
    with pytest.raises(UserError, match="weights only"):
        read_state_dict(rewritten(archive, tmp_path / "bomb.pt", compress=True))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_cut_off_archive_is_refused(tmp_path, archive, share):
    data = archive.read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=r"cut\.pt"):
        read_state_dict(tmp_path / "cut.pt")
