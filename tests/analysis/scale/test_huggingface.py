"""Streams of the datasets library, from local files, and what is refused of them."""

import numpy as np
import pytest

datasets = pytest.importorskip("datasets", reason="streams are an optional extra")
pytest.importorskip("pyarrow", reason="streams are an optional extra")
from streams import png

import clearclip
from analysis.scale.collection import collect_shards
from analysis.scale.parts import open_parts
from analysis.scale.sources import shards
from clearclip.errors import UserError
from clearclip.pictures import BadImage

FEATURES = datasets.Features({"label": datasets.Value("int64"), "image": datasets.Image()})


def parquet(path, cells, features=FEATURES):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"label": list(range(len(cells))), "image": cells}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({name: rows[name] for name in features}, features).to_parquet(path)


def cell(number):
    return {"bytes": png(number), "path": f"{number}.png"}


def test_a_folder_of_parquet_files_is_a_shard_each(tmp_path):
    for shard in range(2):
        parquet(tmp_path / f"pictures/train-{shard:05}.parquet", [cell(10 * shard + i) for i in range(3)])
    source = shards(f"hf:{tmp_path}/pictures:train")
    assert len(source.labels) == 2 and source.stamp(0)
    assert [[example.name for example in source.read(shard)] for shard in range(2)] == [
        ["0.png", "1.png", "2.png"], ["10.png", "11.png", "12.png"],
    ]  # fmt: skip
    assert [example.content for example in source.read(1)] == [png(10 + i) for i in range(3)]
    before = source.stamp(0)
    parquet(tmp_path / "pictures/train-00001.parquet", [cell(7)])
    assert shards(f"hf:{tmp_path}/pictures:train").stamp(0) != before


def test_one_parquet_file_and_a_folder_of_pictures_give_the_same_bits(tmp_path):
    cells = [cell(i) for i in range(5)]
    parquet(tmp_path / "pictures.parquet", cells)
    (tmp_path / "folder/train").mkdir(parents=True)
    for one in cells:
        (tmp_path / "folder/train" / one["path"]).write_bytes(one["bytes"])
    model, rows = clearclip.load("clip_tiny", device="cpu"), []
    for name in ("pictures.parquet", "folder"):
        collect_shards(
            model, f"hf:{tmp_path}/{name}:train", tmp_path / f"{name} parts", ["entropy"], image_size=32, progress=False
        )
        rows.append(open_parts(tmp_path / f"{name} parts").to_table().to_pandas().drop(columns="shard"))
    assert rows[0].equals(rows[1]) and len(rows[0]) == 5


def test_rows_that_name_other_files_are_not_followed(tmp_path):
    (tmp_path / "private.png").write_bytes(png(0))
    parquet(
        tmp_path / "a.parquet",
        [{"bytes": None, "path": str(tmp_path / "private.png")}, {"bytes": b"broken", "path": None}, None],
    )
    examples = list(shards(f"hf:{tmp_path}/a.parquet").read(0))
    assert [example.content for example in examples] == [b"", b"broken", b""]
    with pytest.raises(BadImage, match=r"private\.png cannot be used: it has no bytes"):
        examples[0].picture("a").read()
    with pytest.raises(BadImage, match="a/row 1: no picture that Pillow can read"):
        examples[1].picture("a").read()


def test_a_damaged_file_is_named(tmp_path):
    parquet(tmp_path / "a.parquet", [cell(i) for i in range(3)])
    source = shards(f"hf:{tmp_path}/a.parquet")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"a\.parquet\[0\] cannot be read to its end: .*Put it right"):
        list(source.read(0))


def test_what_cannot_be_streamed(tmp_path, monkeypatch):
    parquet(tmp_path / "pictures/train-00000.parquet", [cell(0)])
    parquet(tmp_path / "numbers/train-00000.parquet", [], datasets.Features({"label": datasets.Value("int64")}))
    (tmp_path / "code").mkdir()
    (tmp_path / "code/code.py").write_text("import pathlib\npathlib.Path('owned').touch()\n")
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines/train.jsonl").write_text('{"image": "/etc/hostname"}\n')
    monkeypatch.chdir(tmp_path)
    for source, message in {
        "hf:pictures:test": r"cannot be streamed \(.*test.*train",
        "hf:numbers:train": "has no column of pictures; it has label",
        "hf:code:train": "cannot be streamed",
        "hf:lines:train": "is of the kind json; streamed are parquet",
        "hf:a:b:c:d": "hf:NAME:CONFIG:SPLIT",
        "hf:": "a stream is named as",
    }.items():
        with pytest.raises(UserError, match=message):
            shards(source)
    assert not (tmp_path / "owned").exists()


def test_a_hub_that_is_out_of_reach_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"hf:someone/pictures:train cannot be streamed .*while it can be reached"):
        shards("hf:someone/pictures:train")


def test_values_are_finite_and_named(tmp_path):
    parquet(tmp_path / "a.parquet", [cell(0), cell(1)])
    collect_shards(
        "clip_tiny",
        f"hf:{tmp_path}/a.parquet",
        tmp_path / "parts",
        ["maximum"],
        layers=[6],
        image_size=32,
        progress=False,
    )
    rows = open_parts(tmp_path / "parts").to_table().to_pandas()
    columns = [
        f"maximum.6.{feature}.{tokens}" for feature in ("X_res", "X_attn", "X_sum") for tokens in ("patches", "all")
    ]
    assert rows.columns.tolist() == ["model", "shard", "position", "image", "sha256", *columns]
    assert np.isfinite(rows[columns]).all().all()
