"""Exported tokens as a data set of PyTorch."""

import json
import pickle

import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

import clearclip
from analysis import TokenShards, export_tokens
from clearclip.errors import UserError


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Three pictures and one that cannot be read, two in a shard, with CLS."""
    folder = tmp_path_factory.mktemp("exported")
    photos = folder / "photos"
    photos.mkdir()
    for i, name in enumerate(("NA.png", "b.png", "d.png")):
        Image.effect_noise((80, 70), 20 + 60 * i).save(photos / name)
    (photos / "c.png").write_bytes(b"broken")
    model = clearclip.load("clip_tiny", device="cpu")
    how = {"layers": [3, 6], "features": ["X_attn", "X_sum"], "tokens": "all", "dtype": "bf16"}
    export_tokens(model, photos, folder / "out", batch_size=1, shard_tokens=130, progress=False, **how)
    return folder / "out"


@pytest.fixture
def copy(exported, tmp_path):
    """An export that may be spoiled."""
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def whole(folder, name):
    about = json.loads((folder / "protocol.json").read_text())
    return torch.cat([load_file(folder / part["file"])[name] for part in about["shards"]])


def test_items_are_the_rows_of_the_shards_in_float32(exported):
    for layer, feature in ((3, "X_attn"), (6, "X_sum")):
        tokens, expected = (
            TokenShards(exported, layer, feature, check=True),
            whole(exported, f"{feature}.{layer}").float(),
        )
        assert len(tokens) == len(expected) == 3 * 65
        assert torch.equal(torch.stack([tokens[i] for i in range(len(tokens))]), expected)
        assert torch.equal(tokens[-1], expected[-1])
        assert torch.equal(torch.stack(tokens.__getitems__([190, 0, 129, 130, -1])), expected[[190, 0, 129, 130, -1]])
    for index in (195, -196):
        with pytest.raises(IndexError, match="there are 195"):
            tokens[index]
    assert repr(tokens) == "TokenShards(195 tokens × 96, X_sum.6 of clip_tiny, 2 shards)"


def test_the_origin_of_a_token(exported):
    tokens = TokenShards(exported, 6)
    assert tokens.origin(0) == ("NA.png", 0, -1, -1) and tokens.origin(64) == ("NA.png", 64, 7, 7)
    assert tokens.origin(65 + 11) == ("b.png", 11, 1, 2)
    assert tokens.origin(-1) == ("d.png", 64, 7, 7)  # c.png could not be read
    assert tokens.pictures == ["NA.png", "b.png", "c.png", "d.png"]


def test_what_is_done_to_an_item_leaves_the_next_alone(exported):
    tokens = TokenShards(exported, 6)
    before = tokens[7].clone()
    tokens[7].add_(1)
    assert torch.equal(tokens[7], before)


def test_shuffled_batches_of_two_workers(exported):
    tokens = TokenShards(exported, 6)
    tokens[0]  # a file is mapped already when the workers start
    loader = DataLoader(tokens, 32, shuffle=True, num_workers=2, generator=torch.Generator().manual_seed(0))
    batches = list(loader)
    assert [len(batch) for batch in batches] == [32] * 6 + [3]
    order = torch.cat(batches)
    expected = whole(exported, "X_sum.6").float()
    assert not torch.equal(order, expected)
    assert torch.equal(order[order[:, 0].argsort(stable=True), 0], expected[:, 0].sort().values)
    assert sorted(map(bytes, order.numpy())) == sorted(map(bytes, expected.numpy()))


def test_a_copy_for_a_worker_maps_the_files_for_itself(exported):
    tokens = TokenShards(exported, 6)
    item, content = tokens[0], pickle.dumps(tokens)
    assert len(content) < 20_000 and torch.equal(pickle.loads(content)[0], item)


def test_files_are_mapped_and_not_read(tmp_path):
    rows, width = 100_000, 256  # 102 MB
    export_tokens(clearclip.load("clip_tiny"), "scenes", tmp_path, limit=1, progress=False)
    about = json.loads((tmp_path / "protocol.json").read_text())
    path = tmp_path / about["shards"][0]["file"]
    save_file({"X_sum.6": torch.ones(rows, width)}, path)
    about["shards"][0] |= {"bytes": path.stat().st_size, "length": rows}
    (tmp_path / "protocol.json").write_text(json.dumps(about | {"length": rows, "width": width}))
    tokens, process = TokenShards(tmp_path, 6), psutil.Process()
    before = process.memory_info().rss
    assert tokens[5].sum() == width
    assert process.memory_info().rss - before < 30e6


SPOILED = {
    "no protocol": (lambda about, folder: (folder / "protocol.json").unlink(), "is not there yet: repeat the command"),
    "newer": (lambda about, folder: about.update(format="clearclip token shards 2"), "take a newer clearclip-analysis"),
    "other": (lambda about, folder: about.update(format="clearclip sweep 1"), "not the protocol of exported tokens"),
    "no width": (lambda about, folder: about.pop("width"), "it lacks width"),
    "length as text": (lambda about, folder: about.update(length="9"), "it lacks length"),
    "another length": (lambda about, folder: about.update(length=9), "do not have as many tokens"),
    "another file": (lambda about, folder: about["shards"][0].update(file="../x.safetensors"), "is not a shard"),
    "no object": (lambda about, folder: about.update(shards=[3]), "an object is expected"),
    "missing": (lambda about, folder: (folder / about["shards"][1]["file"]).unlink(), "is missing: repeat"),
    "shorter": (
        lambda about, folder: (folder / about["shards"][1]["file"]).write_bytes(b"x"),
        "has another size: repeat",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_no_finished_export_is_refused(what, copy):
    spoil, message = SPOILED[what]
    about = json.loads((copy / "protocol.json").read_text())
    (copy / "protocol.json").unlink()
    if what != "no protocol":
        spoil(about, copy)
        (copy / "protocol.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=message):
        TokenShards(copy, 6)


def test_layers_and_features_that_were_not_exported(exported, tmp_path):
    with pytest.raises(UserError, match="no layer 4: choose from 3, 6"):
        TokenShards(exported, 4)
    with pytest.raises(UserError, match="no feature X_res: choose from X_attn, X_sum"):
        TokenShards(exported, 6, "X_res")
    with pytest.raises(UserError, match=r"Name a folder that python -m analysis\.export has written"):
        TokenShards(tmp_path, 6)


def test_a_damaged_shard_is_found(copy):
    path = copy / TokenShards(copy, 6).shards[0]["file"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    TokenShards(copy, 6)  # which looks at sizes only
    with pytest.raises(UserError, match=r"is damaged: its content does not fit its SHA-256\. Repeat the command"):
        TokenShards(copy, 6, check=True)
    path.write_bytes(bytes(len(content)))
    with pytest.raises(UserError, match="is damaged"):
        TokenShards(copy, 6)[0]


def test_a_changed_table_of_pictures_is_found(copy):
    tokens = TokenShards(copy, 6)
    (copy / "pictures.csv").write_text("name\nmine\n")
    with pytest.raises(UserError, match=r"pictures\.csv is missing or was changed"):
        tokens.origin(0)
