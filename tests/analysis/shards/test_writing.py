"""Exported shards: the very numbers of the maps, whatever interrupts, and never two exports in one folder."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from importlib.metadata import version
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from commands import files, here
from safetensors import safe_open
from safetensors.torch import load_file

import clearclip
from analysis import Probe, collect, export_tokens
from analysis.probes.images import pictures
from analysis.shards import shard
from clearclip.entries import digest_now
from clearclip.errors import UserError
from clearclip.models.wrap import wrap

SITES = {"layers": [3, 6], "features": ["X_res", "X_sum"]}
SMALL = {"batch_size": 2, "shard_tokens": 4 * 64, "progress": False}  # four pictures of 8 × 8 patches


@pytest.fixture(scope="module")
def model():
    return clearclip.load("clip_tiny", device="cpu")


def maps(model, photos, batch_size, dtype=torch.float32):
    """Site → the maps of all pictures, (pictures, tokens, channels), from a probe that keeps them."""
    transform, parts = model.transform(), []
    read = [transform(picture.read()) for picture in pictures(photos)]
    with torch.inference_mode(), Probe(model, SITES["layers"], SITES["features"], keep=True) as probe:
        for start in range(0, len(read), batch_size):
            parts.append(probe.run(torch.stack(read[start : start + batch_size])))
    return {site: torch.cat([part[site] for part in parts]).to(dtype) for site in parts[0]}


def shards(folder):
    """The tensors of all shards, one behind the other."""
    parts = [load_file(path) for path in shard.shards_in(folder).values()]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tokens", ["patches", "all"])
def test_every_bit_is_that_of_the_maps(tokens, dtype, model, photos, tmp_path):
    name = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
    about = export_tokens(model, photos, tmp_path, tokens=tokens, dtype=name, **SITES, **SMALL | {"shard_tokens": 300})
    first = 0 if tokens == "all" else 1
    expected, written = maps(model, photos, 2, dtype), shards(tmp_path)
    for (layer, feature), x in expected.items():
        assert torch.equal(
            written[f"{feature}.{layer}"].view(torch.uint8), x[:, first:].flatten(0, 1).view(torch.uint8)
        )
    place = [written[name].tolist() for name in ("picture", "token", "row", "column")]
    by_hand = [
        (picture, token, (token - 1) // 8 if token else -1, (token - 1) % 8 if token else -1)
        for picture in range(9)
        for token in range(first, 65)
    ]
    assert list(zip(*place, strict=True)) == by_hand
    assert about["length"] == len(by_hand) and {part["length"] <= 300 for part in about["shards"]} == {True}
    assert about["dtype"] == name and len(about["shards"]) == 3


def test_the_protocol_says_what_was_exported(model, photos, tmp_path):
    about = export_tokens(model, photos, tmp_path, **SITES, **SMALL)
    assert about == json.loads((tmp_path / "protocol.json").read_text())
    assert about["weights_sha256"] == model.weights.sha256 and about["preprocessing"] == str(model.preprocessing)
    assert f"torch {version('torch')}" in about["libraries"] and about["format"] == "clearclip token shards 1"
    assert (about["layers"], about["features"], about["width"], about["images"]) == ([3, 6], ["X_res", "X_sum"], 96, 9)
    for part in about["shards"]:
        content = (tmp_path / part["file"]).read_bytes()
        assert sha256(content).hexdigest() == part["sha256"] and len(content) == part["bytes"]
        assert f"-{part['sha256'][:16]}." in part["file"]
    table = pd.read_csv(tmp_path / "pictures.csv")
    assert table["sha256"].tolist() == [content_of(photos / name) for name in table["name"]]
    assert table["shard"].tolist() == [0] * 4 + [1] * 4 + [2]
    statistics = collect(model, photos, ["entropy"], progress=False)
    assert about["image_list_sha256"] == digest_now(pictures(photos)) == statistics.attrs["image_list_sha256"]
    text = (tmp_path / "protocol.md").read_text()
    assert all(part["file"] in text and part["sha256"] in text for part in about["shards"])
    assert model.weights.sha256 in text and "`X_sum.6`" in text and "random" not in text.replace("random weights", "")


def content_of(path):
    """What a record calls the content of a picture of one file."""
    return sha256(json.dumps([sha256(path.read_bytes()).hexdigest()]).encode()).hexdigest()


def test_layers_in_any_order_are_one_export(model, photos, tmp_path):
    about = export_tokens(model, photos, tmp_path, layers=[6, 3], features=["X_sum", "X_res"], **SMALL)
    assert export_tokens(model, photos, tmp_path, **SITES, **SMALL) == about  # nothing is written again


def test_pictures_that_cannot_be_read_are_named_and_counted(model, photos, tmp_path, capsys):
    for i in (1, 8):
        (photos / f"photo_{i}.png").write_bytes(b"broken")
    about = export_tokens(model, photos, tmp_path / "out", **SMALL)
    assert about["images"] == 7 and len(about["skipped"]) == 2 and "photo_1.png" in about["skipped"][0]
    assert [part["length"] for part in about["shards"]] == [3 * 64, 4 * 64, 0]
    assert capsys.readouterr().out.count("skipped: ") == 2
    table = pd.read_csv(tmp_path / "out" / "pictures.csv", keep_default_na=False)
    assert table["name"][table["skipped"] != ""].tolist() == ["photo_1.png", "photo_8.png"]
    written = shards(tmp_path / "out")
    assert sorted(set(written["picture"].tolist())) == [0, 2, 3, 4, 5, 6, 7]
    assert export_tokens(model, photos, tmp_path / "out", **SMALL) == about
    with pytest.raises(UserError, match=r"photo_1\.png.*refused because of strict"):
        export_tokens(model, photos, tmp_path / "strict", strict=True, **SMALL)


def test_not_one_picture(model, photos, tmp_path):
    for photo in photos.iterdir():
        photo.write_bytes(b"broken")
    with pytest.raises(UserError, match="not one picture could be used"):
        export_tokens(model, photos, tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


OTHERS = {
    "layers": ({"layers": [3]}, r"other layers \(\[3, 6\] → \[3\]\)"),
    "features": ({"features": ["X_sum"]}, "other features"),
    "tokens": ({"tokens": "all"}, r"other tokens \(patches → all\)"),
    "dtype": ({"dtype": "bf16"}, r"other dtype \(fp32 → bf16\)"),
    "shards": ({"shard_tokens": 128}, r"other shard_tokens \(256 → 128\)"),
    "batch size": ({"batch_size": 3}, r"other batch_size \(2 → 3\)"),
    "image size": ({"image_size": 96}, "other columns .*, image_size .*, rows"),
    "pictures": ({"limit": 3}, "other image_list"),
    "model": ({"model": clearclip.load("clip_tiny", random=True, device="cpu")}, "other .*weights_sha256"),
}


@pytest.mark.parametrize("finished", [True, False])
def test_another_export_into_the_same_folder_is_refused(finished, model, photos, tmp_path):
    export_tokens(model, photos, tmp_path, **SITES, **SMALL)
    if not finished:
        for name in ("protocol.json", "protocol.md", "pictures.csv"):
            (tmp_path / name).unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for change, message in OTHERS.values():
        how = {"model": model, **SITES, **SMALL, **change}
        with pytest.raises(UserError, match=message):
            export_tokens(how.pop("model"), photos, tmp_path, **how)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_restart_sets_aside_what_is_there(model, photos, tmp_path):
    export_tokens(model, photos, tmp_path, **SMALL)
    before = [name for name in files(tmp_path) if not name.startswith("photos")]
    with pytest.warns(UserWarning, match="6 files of another export are set aside"):
        about = export_tokens(model, photos, tmp_path, layers=[3], restart=True, **SMALL)
    assert about["layers"] == [3] and {f"{name}.dropped" for name in before} <= set(files(tmp_path))


def test_files_of_other_origin_are_never_replaced(model, photos, tmp_path):
    (tmp_path / "pictures.csv").write_text("mine")
    with pytest.raises(UserError, match=r"has a file pictures\.csv that no export has written"):
        export_tokens(model, photos, tmp_path, **SMALL)
    (tmp_path / "protocol.json").write_text('{"format": "mine"}')
    with pytest.raises(UserError, match=r"protocol\.json is not the protocol of exported tokens"):
        export_tokens(model, photos, tmp_path, **SMALL)
    assert (tmp_path / "pictures.csv").read_text() == "mine"


def test_a_picture_that_changed_is_named(model, photos, tmp_path):
    export_tokens(model, photos, tmp_path, **SMALL)
    (tmp_path / "protocol.json").unlink()
    shutil.copy(photos / "photo_0.png", photos / "photo_5.png")
    with pytest.raises(UserError, match=r"changed after .*photo_5\.png"):
        export_tokens(model, photos, tmp_path, **SMALL)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_shard_is_found_and_written_anew(seed, model, photos, tmp_path):
    about = export_tokens(model, photos, tmp_path, **SMALL)
    path = tmp_path / about["shards"][1]["file"]
    content = path.read_bytes()
    place = random.Random(seed).randrange(len(content))
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    times = {other: other.stat().st_mtime_ns for other in shard.shards_in(tmp_path).values() if other != path}
    with pytest.warns(UserWarning, match="is damaged: its content does not fit its name"):
        assert export_tokens(model, photos, tmp_path, **SMALL) == about
    assert path.read_bytes() == content and path.with_name(f"{path.name}.damaged").is_file()
    assert {other: other.stat().st_mtime_ns for other in times} == times  # the others are not written again


def test_a_shard_under_the_number_of_another_is_found(model, photos, tmp_path):
    about = export_tokens(model, photos, tmp_path, **SMALL)
    first, second = (tmp_path / part["file"] for part in about["shards"][:2])
    second.rename(second.with_name(second.name.replace("00001", "00000")))
    first.unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        assert export_tokens(model, photos, tmp_path, **SMALL) == about


def test_killed_and_repeated_it_gives_the_same_bytes(photos, tmp_path):
    """SIGKILL as soon as two shards are there; then it runs to its end."""
    words = ("analysis.export", "--model", "clip_tiny", "--images", photos, "--batch-size", "1", "--shard-tokens", "64")
    alone = here(*words, "--output", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    again = tmp_path / "again"
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, words), "--output", "again"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and len(shard.shards_in(again)) < 2:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in shard.shards_in(again).values()}
    assert len(before) >= 2
    done = here(*words, "--output", "again", cwd=tmp_path)
    assert done.returncode == 0 and f"again has {len(before)} of 9 shards already" in done.stdout, done.stderr
    assert before.items() <= {path: path.stat().st_mtime_ns for path in again.iterdir()}.items()  # not written again
    assert files(again) == files(tmp_path / "alone")  # nothing is left behind
    for name in files(again):
        if name.endswith((".safetensors", ".csv")):
            assert (again / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    ours, expected = (json.loads((folder / "protocol.json").read_text()) for folder in (again, tmp_path / "alone"))
    volatile = dict.fromkeys(("created", "command"))
    assert ours | volatile == expected | volatile


def test_maps_that_are_not_finite_are_refused(model, photos, tmp_path):
    spoiled = clearclip.load("clip_tiny", device="cpu")
    with torch.no_grad():
        spoiled.model.visual.transformer.resblocks[2].attn.out_proj.bias[5] = float("nan")
    with pytest.raises(UserError, match=r"photo_0\.png: non-finite values in X_res of layer 6"):
        export_tokens(
            wrap(spoiled.model, preprocessing=model.preprocessing),
            photos,
            tmp_path,
            **{**SITES, "layers": [6]},
            **SMALL,
        )


def test_what_fp16_cannot_hold_is_refused(photos, tmp_path):
    large = clearclip.load("clip_tiny", device="cpu")
    with torch.no_grad():
        large.model.visual.transformer.resblocks[2].attn.out_proj.bias[5] = 1e6
    model = wrap(large.model, preprocessing=large.preprocessing)
    with pytest.raises(UserError, match=r"photo_0\.png: X_sum of layer 3 of .* beyond 65504, which fp16 cannot hold"):
        export_tokens(model, photos, tmp_path / "fp16", layers=[3], dtype="fp16", **SMALL)
    export_tokens(model, photos, tmp_path / "bf16", layers=[3], dtype="bf16", **SMALL)


MISTAKES = {
    "a shard below one picture": ({"shard_tokens": 63}, "64 tokens per picture, so shards need at least 64"),
    "tokens": ({"tokens": "cls"}, "choose from patches, all"),
    "dtype": ({"dtype": "fp8"}, "choose from fp32, fp16, bf16"),
    "layers": ({"layers": [7]}, r"has layers 1 … 6"),
    "features": ({"features": ["X_ffn"]}, "choose from X_res, X_attn, X_sum"),
    "batch size": ({"batch_size": 0}, "at least 1"),
    "image size": ({"image_size": 65}, "65"),
    "memory": ({"shard_tokens": 10**6}, "of memory while they are written"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_before_anything_is_written(mistake, model, photos, tmp_path, monkeypatch):
    change, message = MISTAKES[mistake]
    if mistake == "memory":
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=3 * 8 * 64 * 96 * 4))
        monkeypatch.setattr("analysis.shards.plan.refuse_too_large", lambda *_: None)
    with pytest.raises(UserError, match=message):
        export_tokens(model, photos, tmp_path / "out", **SMALL | change)
    assert not (tmp_path / "out").exists()


def test_the_command(photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"broken")
    which = ("--layers", "3", "6", "--features", "X_res", "X_sum", "--tokens", "all", "--dtype", "bf16", "--limit", "4")
    model = ("--model", "timm:test_vit.r160_in1k", "--random", "--image-size", "64")
    words = (*model, "--images", photos, *which, "--output", "features")
    done = here("analysis.export", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RANDOM WEIGHTS" in done.stdout and "skipped 1 picture that could not be used" in done.stdout
    assert "X_res of layer 3" in done.stdout and "in 1 shard\n" in done.stdout
    assert 'analysis.TokenShards("features", layer=6, feature="X_sum")' in done.stdout
    about = json.loads((tmp_path / "features" / "protocol.json").read_text())
    assert about["random_weights"] and about["images"] == 3 and "--output features --limit 4" in about["command"]
    assert "**The weights are random" in (tmp_path / "features" / "protocol.md").read_text()
    with safe_open(tmp_path / "features" / about["shards"][0]["file"], "pt") as file:
        assert file.get_slice("X_sum.6").get_dtype() == "BF16"
        names = {"X_res.3", "X_res.6", "X_sum.3", "X_sum.6", "picture", "token", "row", "column"}
        assert set(file.keys()) == names
    refused = here("analysis.export", *words, "--image-size", "96", cwd=tmp_path)
    assert refused.returncode == 2 and "image_size (64 → 96)" in refused.stderr and "--restart" in refused.stderr
    two = here("analysis.export", "--model", "clip_tiny", "dino_tiny", cwd=tmp_path)
    assert two.returncode == 2 and "one are exported at a time" in two.stderr
