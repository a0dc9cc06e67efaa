"""Checkpoints whose tensors are no plain numbers of the kind that weights are."""

import pytest
import torch
from commands import here
from safetensors.torch import save_file

import clearclip
from clearclip.errors import UserError

KEY = "blocks.0.attn.qkv.weight"
UNUSUAL = {
    "whole numbers": (lambda weight: (100 * weight).int(), "is int32"),
    "bytes": (lambda weight: (100 * weight).to(torch.int8), "is int8"),
    "truth values": (lambda weight: weight > 0, "is bool"),
    "complex numbers": (lambda weight: weight.to(torch.complex64), "is complex64"),
    "no numbers": (lambda weight: weight.to("meta"), "on the meta device"),
    "sparse": (lambda weight: weight.to_sparse(), r"a sparse tensor \(sparse_coo\)"),
    "compressed rows": (lambda weight: weight.to_sparse_csr(), r"a sparse tensor \(sparse_csr\)"),
    "quantized": (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "a quantized tensor"),
    "nested": (lambda weight: torch.nested.nested_tensor([weight]), "weights only"),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # torch's own, of tensors that are prototypes or deprecated


@pytest.fixture(scope="module")
def state():
    return clearclip.load("dino_tiny", device="cpu").model.state_dict()


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_tensors_are_one_message(case, state, tmp_path):
    change, message = UNUSUAL[case]
    file = tmp_path / "weights.pt"
    torch.save({**state, KEY: change(state[KEY])}, file)
    with pytest.raises(UserError, match=message) as raised:
        clearclip.load("dino_tiny", checkpoint=file)
    assert str(file) in str(raised.value)
    done = here("analysis.entropy", "--model", f"dino_tiny:{file}", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ")


def test_many_of_them_are_counted(state, tmp_path):
    save_file({key: (100 * tensor).int() for key, tensor in state.items()}, tmp_path / "whole.safetensors")
    with pytest.raises(UserError, match=f"and {len(state) - 3} more"):
        clearclip.load("dino_tiny", checkpoint=tmp_path / "whole.safetensors")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_point_is_taken(kind, state, tmp_path):
    torch.save({key: tensor.to(kind) for key, tensor in state.items()}, tmp_path / "weights.pt")
    model = clearclip.load("dino_tiny", checkpoint=tmp_path / "weights.pt", device="cpu")
    assert torch.equal(model.model.state_dict()[KEY], state[KEY].to(kind).float())
