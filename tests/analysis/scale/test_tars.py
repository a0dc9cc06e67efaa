"""Tar shards of WebDataset's own writer, of strangers, and damaged ones."""

import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest
import xarray as xr
from commands import files, here

webdataset = pytest.importorskip("webdataset", reason="streams are an optional extra")
pytest.importorskip("pyarrow", reason="streams are an optional extra")
from streams import png

import clearclip
from analysis.probes import store
from analysis.probes.collection import collect
from analysis.probes.images import pictures
from analysis.scale import tars
from analysis.scale.collection import collect_shards
from analysis.scale.parts import open_parts
from analysis.scale.sources import shards
from clearclip.errors import UserError
from clearclip.pictures import BadImage


class Hostile:
    def __reduce__(self):
        return (print, ("owned",))


@pytest.fixture
def written(tmp_path):
    """Twelve pictures, one of them broken, in a folder and in two shards with what else samples have."""
    (tmp_path / "folder").mkdir()
    with webdataset.ShardWriter(f"{tmp_path}/train-%03d.tar", maxcount=8, verbose=0) as writer:
        for i in range(12):
            content = b"broken" if i == 5 else png(i)
            (tmp_path / "folder" / f"{i:02}.png").write_bytes(content)
            more = {"cls": i, "json": {"i": i}, "seg.png": png(100 + i), "pyd": {"pickled": i}}
            writer.write({"__key__": f"{i:02}", "png": content, **more})
    return tmp_path


def tar(path, *members, mode="w", **how):
    """An archive of (name, content), or of ready headers."""
    with tarfile.open(path, mode, **how) as archive:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return shards(f"webdataset:{path}")


def test_shards_give_the_bits_of_a_folder(written):
    model, how = clearclip.load("clip_tiny", device="cpu"), {"image_size": 32, "batch_size": 4, "progress": False}
    names = ["entropy", "maximum", "channel_mean", "token_norm"]
    folder = collect(model, written / "folder", names, **how)
    source = f"webdataset:{written}/train-{{000..001}}.tar"
    stream = collect_shards(model, source, written / "parts", names, **how)
    rows = open_parts(written / "parts").to_table().to_pandas()
    assert rows.image.tolist() == folder.image.values.tolist() and rows.position.tolist()[-1] == 3
    for name in ("entropy", "maximum"):
        columns = [column for column in rows if column.startswith(f"{name}.")]
        np.testing.assert_array_equal(rows[columns], folder[name].values.reshape(11, -1))
    for name in ("channel_mean", "token_norm"):
        xr.testing.assert_equal(
            stream[name].drop_vars(["source", "pictures"]), folder[name].drop_vars("source", errors="ignore")
        )
    assert stream.attrs["skipped_images"] == 1 and "train-000.tar/05.png: no picture" in stream.attrs["skipped"]


def test_only_pictures_are_taken_and_nothing_is_unpickled(tmp_path, capsys):
    pickled = pickle.dumps(Hostile())
    members = [("a.jpg", png(0)), ("a.pkl", pickled), ("a.pyd", pickled), ("a.png", png(1)), ("b.seg.png", png(2)),
               ("__meta__/c.png", png(3)), ("folder/d.PNG", png(4)), ("e.pdf", b"%PDF"), (".png", b"")]  # fmt: skip
    assert [example.name for example in tar(tmp_path / "a.tar", *members).read(0)] == ["a.jpg", "folder/d.PNG"]
    assert "owned" not in capsys.readouterr().out


def test_names_of_strangers_are_names_only(tmp_path):
    members = [
        ("../../owned.png", png(0)),
        ("/owned.png", png(1)),
        ("\x1b[2J<b>.png", png(2)),
        (f"{'x' * 5000}.png", png(3)),
    ]
    source = tar(tmp_path / "a.tar", *members)
    names = [example.name for example in source.read(0)]
    assert names[:3] == ["../../owned.png", "/owned.png", "\\x1b[2J<b>.png"] and len(names[3]) == 301
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    assert list(tar(tmp_path / "b.tar", (link, b"")).read(0)) == []
    assert files(tmp_path) == ["a.tar", "b.tar"]


def test_a_member_that_is_too_large_is_named_and_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "LARGEST", 2000)
    first, second = tar(tmp_path / "a.tar", ("a.png", bytes(5000)), ("b.png", b"small")).read(0)
    assert first.content == b"" and second.content == b"small"
    with pytest.raises(
        BadImage, match=r"a\.tar/a\.png cannot be used: its file has 5,000 bytes, and 2,000 is the most"
    ):
        first.picture("a.tar").read()


def test_a_header_that_is_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "LARGEST_HEADER", 50_000)
    bomb = tarfile.TarInfo("a.png")
    bomb.pax_headers = {"comment": "x" * 10_000_000}
    source = tar(tmp_path / "a.tar.gz", (bomb, png(0)), mode="w:gz", format=tarfile.PAX_FORMAT)
    assert (tmp_path / "a.tar.gz").stat().st_size < 50_000
    with pytest.raises(UserError, match=r"a\.tar\.gz cannot be read to its end: a header is larger"):
        list(source.read(0))


def test_a_sparse_member_is_refused(tmp_path):
    member = tarfile.TarInfo("a.png")
    member.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(UserError, match="cannot be read to its end: it holds a sparse file"):
        list(tar(tmp_path / "a.tar", (member, png(0))).read(0))


@pytest.mark.parametrize("compressed", [False, True])
def test_compressed_or_not(compressed, tmp_path):
    name = "a.tar.gz" if compressed else "a.tar"
    source = tar(tmp_path / name, ("a.png", png(0)), ("b.png", png(1)), mode="w:gz" if compressed else "w")
    assert [example.content for example in source.read(0)] == [png(0), png(1)]


@pytest.mark.parametrize(
    "damage", ["cut in a picture", "cut in a header", "cut between", "a header's bit", "empty", "no tar", "gzip"]
)
def test_a_shard_that_breaks_off_is_no_shorter_shard(damage, tmp_path):
    path = tmp_path / "a.tar"
    source = tar(path, *((f"{i}.png", png(i)) for i in range(3)))
    content = path.read_bytes()
    second = content.index(b"1.png")
    flipped = bytearray(content)
    flipped[second] ^= 1
    path.write_bytes(
        {
            "cut in a picture": content[: second + 900],
            "cut in a header": content[: second + 100],
            "cut between": content[:second],
            "a header's bit": bytes(flipped),
            "empty": b"",
            "no tar": b"no tar" * 1000,
            "gzip": gzip.compress(content)[:-20],
        }[damage]
    )
    with pytest.raises(UserError, match=r"a\.tar cannot be read to its end: .*Put a complete copy in its place"):
        list(source.read(0))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{folder}/train-{{000..002}}.tar", r"1 of 3 shards are not there, .*train-002\.tar first"),
        ("{folder}/train-{{000..001.tar", "1 of 1 shards are not there|Name shards as in"),
        ("pipe:touch owned", "shards that a command writes are not read"),
        ("{folder}/train-000.tar::{folder}/train-000.tar", "once is enough"),
        ("", "a stream is named as webdataset:SHARDS"),
    ],
)
def test_shards_that_cannot_be_named(pattern, message, written):
    with pytest.raises(UserError, match=message):
        shards("webdataset:" + pattern.format(folder=written))


def test_commands_over_a_stream(written):
    """The whole way of a user: measured, gone over again, refused with other options, begun anew."""
    source, name = f"webdataset:{written}/train-{{000..001}}.tar", "results/entropy"
    words = ("--model", "clip_tiny", "--images", source, "--image-size", "32", "--device", "cpu")
    done = here("analysis.entropy", *words, cwd=written)
    assert done.returncode == 0, done.stderr
    assert "mean over 11 images of webdataset:" in done.stdout and "skipped 1 pictures" in done.stdout
    assert "The entropy of " in done.stdout
    dataset = store.read(written / f"{name}.nc")
    assert dataset.attrs["format"] == "clearclip stream statistics 1" and dataset.source.item() == source
    assert {f"{name}.nc", f"{name}.csv", f"{name}.png", f"{name}.parts/clip_tiny/00001/00000.parquet"} <= set(
        files(written)
    )
    again = here("analysis.entropy", *words, cwd=written)
    assert again.returncode == 0 and "skipped: " not in again.stdout  # nothing was read
    xr.testing.assert_equal(store.read(written / f"{name}.nc"), dataset)
    other = here("analysis.entropy", *words, "--layers", "1", cwd=written)
    assert other.returncode == 2 and "interrupted run with other layers" in other.stderr
    anew = here("analysis.entropy", *words, "--layers", "1", "--restart", cwd=written)
    assert anew.returncode == 0 and "entropy.parts is set aside as results/entropy.parts.dropped" in anew.stderr


def test_other_commands_say_that_they_take_no_stream(written):
    with pytest.raises(UserError, match=r"is a stream\. Statistics, entropy"):
        pictures(f"webdataset:{written}/train-000.tar")
    with pytest.raises(UserError, match=r"is a stream\. Statistics, entropy"):
        pictures([written / "folder", f"webdataset:{written}/train-000.tar"])


def test_a_missing_library_says_which_extra_brings_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "analysis.scale.tars", None)
    with pytest.raises(UserError, match=r"needs the analysis\.scale\.tars library: .*clearclip-analysis\[scale\]"):
        shards("webdataset:a.tar")
