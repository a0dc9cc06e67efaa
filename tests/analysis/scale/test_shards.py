"""Statistics over streams: the bits of a folder, of any number of processes, and of a run that lost one."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from commands import process

pytest.importorskip("pyarrow", reason="streams are an optional extra")
from streams import BROKEN, LENGTHS, STATISTICS, Drawn, measure

import clearclip
from analysis.probes.collection import collect
from analysis.scale import collection
from analysis.scale.parts import open_parts
from clearclip.errors import UserError
from clearclip.runs import results
from clearclip.runs.processes import Processes

USED, PARTS = sum(LENGTHS) - 1, sum(-(-length // 4) for length in LENGTHS)
MESSAGE = f"drawn {BROKEN[0]}/{BROKEN[1]}.png: no picture that Pillow can read"


def same(ours, expected):
    """The same bits, coordinates and attributes; only when and by which command may differ."""
    when = {"created", "command", "format"}
    ours, expected = (
        dataset.drop_attrs(deep=False).assign_attrs({k: v for k, v in dataset.attrs.items() if k not in when})
        for dataset in (ours, expected)
    )
    xr.testing.assert_identical(ours, expected)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return tmp_path_factory.mktemp("alone")


@pytest.fixture(scope="module")
def whole(parts):
    """One process, never interrupted."""
    return measure(Drawn(), parts)


@pytest.fixture(scope="module")
def listed():
    """The same pictures as a list, in batches of the same pictures."""
    shards = Drawn()
    pictures = [example.picture(label) for shard, label in enumerate(shards.labels) for example in shards.read(shard)]
    model = clearclip.load("clip_tiny", device="cpu")
    one = [collect(model, pictures[a : a + n], STATISTICS, image_size=32, batch_size=2, progress=False)
           for a, n in zip(np.cumsum([0, *LENGTHS[:-1]]), LENGTHS, strict=True)]  # fmt: skip
    return xr.concat([dataset[["entropy", "frobenius_norm"]] for dataset in one], "image"), one


def test_rows_are_those_of_a_list_bit_by_bit(whole, parts, listed):
    rows = open_parts(parts).to_table().to_pandas()
    assert len(rows) == USED == whole.attrs["images"]
    assert (rows.model == "clip_tiny").all() and set(rows.shard) == set(Drawn.labels)
    assert rows.position.tolist() == [i for shard, n in enumerate(LENGTHS) for i in range(n) if (shard, i) != BROKEN]
    for name in ("entropy", "frobenius_norm"):
        values = listed[0][name].isel(model=0)
        for layer, feature, tokens in ((1, "X_res", "patches"), (6, "X_sum", "all")):
            expected = values.sel(layer=layer, feature=feature, tokens=tokens)
            np.testing.assert_array_equal(rows[f"{name}.{layer}.{feature}.{tokens}"], expected)


def test_moments_and_averages_are_those_of_all_pictures(whole, listed):
    values, datasets = listed
    for name in ("entropy", "frobenius_norm"):
        exact = values[name].astype(float)
        np.testing.assert_allclose(whole[name].sel(moment="mean"), exact.mean("image"), rtol=1e-6)
        np.testing.assert_allclose(whole[name].sel(moment="std"), exact.std("image"), rtol=1e-4, atol=1e-7)
    counts = [dataset.sizes["image"] for dataset in datasets]
    means = np.average([dataset.channel_mean.values for dataset in datasets], axis=0, weights=counts)
    np.testing.assert_allclose(whole.channel_mean, means, rtol=1e-5, atol=1e-6)
    assert json.loads(whole.attrs["skipped"]) == [MESSAGE] and whole.attrs["skipped_images"] == 1
    assert whole.pictures.item() == USED and whole.source.item() == "drawn"


@pytest.mark.parametrize("count", [2, 5])  # with whole shards for each, and with parts of every shard
def test_processes_that_share_a_stream_end_with_the_bits_of_one(count, whole, parts, tmp_path, monkeypatch, capfd):
    groups = [Processes(number, count) for number in range(count)]
    share, opened = collection.measure_share, []

    def shared(measurement, shards, run, group, **how):
        for one in groups:
            share(measurement, shards, run, one, **how)
            opened.append(len(list(run.path.glob("*/*.npz"))))

    monkeypatch.setattr(collection, "measure_share", shared)
    same(measure(Drawn(), tmp_path), whole)
    assert opened[0] < opened[1] <= opened[-1] == PARTS
    assert open_parts(tmp_path).to_table().equals(open_parts(parts).to_table())
    assert f"skipped: {MESSAGE}" in "".join(capfd.readouterr())


def test_a_worker_that_is_lost_and_started_again_ends_with_the_same_bits(whole, parts, tmp_path):
    script = Path(__file__).parents[2] / "streams.py"
    folder, marker, result = tmp_path / "parts", tmp_path / "killed", tmp_path / "result.nc"
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    path = os.pathsep.join([str(script.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = process(*start, script, folder, marker, result, cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert marker.is_file() and "exitcode: -9" in done.stderr
    before = (folder / "00001/00000.npz").stat().st_mtime_ns
    assert before < marker.stat().st_mtime_ns  # what the lost worker had measured was kept
    same(results.read(result, "stream statistics"), whole)
    assert open_parts(folder).to_table().equals(open_parts(parts).to_table())


def test_a_finished_run_reads_nothing_and_an_interrupted_one_only_the_rest(whole, tmp_path):
    measure(Drawn(), tmp_path)
    for file in tmp_path.glob("00001/0000[1-3].*"):
        file.unlink()
    shards = Drawn()
    same(measure(shards, tmp_path), whole)
    assert shards.shards_read == [1]
    shards = Drawn()
    same(measure(shards, tmp_path), whole)
    assert shards.shards_read == []


def test_another_process_count_goes_on_from_the_same_parts(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "processes", lambda: Lonely(1, 2))
    with pytest.raises(UserError, match=r"drawn 0: not all of its parts are in .*Repeat the command"):
        measure(Drawn(), tmp_path)
    monkeypatch.undo()
    shards = Drawn()
    same(measure(shards, tmp_path), whole)
    assert shards.shards_read == [0, 2]  # the other process had shard 1


class Lonely(Processes):
    """A process whose partner never comes, and that finishes alone."""

    def gather(self, value):
        self.number = 0
        return [value]


@pytest.mark.parametrize(
    ("how", "differs"),
    [({"batch_size": 4}, "batch size"), ({"image_size": 48}, "image size"), ({"layers": [1]}, "layers"),
     ({"limit": 3}, "limit"), ({"part": 6}, "part")],
)  # fmt: skip
def test_another_run_in_the_same_folder_is_refused_with_what_differs(how, differs, whole, parts):
    before = {file.name: file.stat().st_mtime_ns for file in parts.rglob("*.*")}
    with pytest.raises(UserError, match=rf"00000/00000\.npz holds an interrupted run with other {differs}.*--restart"):
        measure(Drawn(), parts, **how)
    assert {file.name: file.stat().st_mtime_ns for file in parts.rglob("*.*")} == before


def test_pictures_that_changed_are_refused_and_those_that_only_look_so_are_not(whole, tmp_path):
    measure(Drawn(), tmp_path)
    same(measure(Drawn(stamp="copied"), tmp_path), whole)
    with pytest.raises(UserError, match=r"drawn 0 was changed after pictures of it were measured"):
        measure(Drawn(stamp="later", seed=7), tmp_path)


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_a_damaged_part_is_measured_anew(suffix, whole, parts, tmp_path):
    measure(Drawn(), tmp_path)
    file = tmp_path / f"00001/00001{suffix}"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"00001/00001\.npz or the rows beside it are damaged"):
        same(measure(Drawn(), tmp_path), whole)
    assert open_parts(tmp_path).to_table().equals(open_parts(parts).to_table())


def test_a_limit_counts_over_all_shards(tmp_path, parts):
    few = measure(Drawn(), tmp_path / "few", limit=LENGTHS[0] + 2)
    assert few.attrs["images"] == LENGTHS[0] + 2
    rows = open_parts(tmp_path / "few").to_table(columns=["image", "shard", "entropy.1.X_res.all"])
    assert rows.equals(open_parts(parts).to_table(columns=rows.column_names).slice(0, LENGTHS[0] + 2))


def test_strict_stops_at_what_cannot_be_used_and_keeps_what_came_before(tmp_path):
    with pytest.raises(UserError, match=rf"{MESSAGE} \(refused because of strict\)"):
        measure(Drawn(), tmp_path, strict=True)
    assert len(list(tmp_path.glob("00000/*.npz"))) == 3


def test_memory_is_that_of_a_part_and_not_of_the_stream(tmp_path, monkeypatch):
    """Never more than two parts of pictures are alive: one is measured, the next is read."""
    alive, most = set(), []

    class Counted(bytes):
        def __del__(self):
            alive.discard(id(self))

    class Many(Drawn):
        def read(self, shard):
            for example in super().read(shard):
                content = Counted(example.content)
                alive.add(id(content))
                most.append(len(alive))
                yield example._replace(content=content)

    measure(Many(), tmp_path)
    assert len(most) == sum(LENGTHS) and max(most) <= 2 * 4 + 1  # and the one behind, which tells that a part is whole


def test_there_is_nothing_to_open(tmp_path):
    with pytest.raises(UserError, match=r"has no parts of a stream"):
        open_parts(tmp_path)
