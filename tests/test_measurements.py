"""The tester of the one stream: puts every measurement through alone, shared, interrupted, killed, by ones, and reordered."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import measurements
import numpy as np
import pytest
import xarray as xr
from measurements import BROKEN, COUNT, MEASUREMENTS, Brightness, Pictures

from analysis.probes import collection
from analysis.prototypes import run as prototype_run
from clearclip.errors import UserError
from clearclip.evaluation import run as evaluation_run
from clearclip.runs import stream as streaming
from clearclip.runs import unfinished_files
from clearclip.runs.processes import Processes
from clearclip.runs.stream import join, stream_share

MESSAGES = [f"picture {index}.png: the file is broken" for index in BROKEN]
IN_HALVES = {"prototypes"}  # sees pictures 0, 2, 4, … first, then 1, 3, 5, …


@pytest.fixture(scope="module", params=MEASUREMENTS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def run(name):
    return MEASUREMENTS[name]


@pytest.fixture(scope="module")
def whole(run):
    """One process, never interrupted."""
    return run(Pictures(), progress=False)


def same(ours: xr.Dataset, expected: xr.Dataset) -> None:
    """The same bits, coordinates and attributes; only when and by which command may differ."""
    when = {"created", "command"}
    ours, expected = (
        dataset.drop_attrs(deep=False).assign_attrs({k: v for k, v in dataset.attrs.items() if k not in when})
        for dataset in (ours, expected)
    )
    xr.testing.assert_identical(ours, expected)


def shared(monkeypatch, count):
    """Let every stream be run by so many processes, one after another."""

    def stream(measurement, *, unfinished=None, strict=False, progress=True):
        states = [
            stream_share(measurement, Processes(i, count), unfinished=unfinished, strict=strict, progress=progress)
            .copy(deep=True)
            for i in range(count)
        ]  # fmt: skip
        return join(states[::-1], measurement.finish)

    for module in (collection, evaluation_run, prototype_run, measurements):
        monkeypatch.setattr(module, "stream", stream)


# what could not be used ----------------------------------------------------------------------------------------------


def test_alone_what_cannot_be_used_is_named_and_counted_in_the_order_of_the_pictures(run, whole, capsys):
    run(Pictures(), progress=False)
    assert capsys.readouterr().out.splitlines() == [f"skipped: {message}" for message in MESSAGES]
    assert json.loads(whole.attrs["skipped"]) == MESSAGES
    for fact in ("libraries", "command", "created"):
        assert whole.attrs[fact]


def test_strict_refuses_the_first_one(run):
    with pytest.raises(UserError, match=r"picture 2\.png.*refused because of strict"):
        run(Pictures(), strict=True, progress=False)


def test_not_one_picture(run):
    with pytest.raises(UserError, match=r"not one picture .*could be used"):
        run(Pictures(broken=range(COUNT)), progress=False)


# processes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 7])
def test_processes_that_share_the_pictures_end_with_the_bits_of_one(run, whole, monkeypatch, capfd, count):
    shared(monkeypatch, count)
    same(run(Pictures(), progress=False), whole)
    spoken = capfd.readouterr()
    assert all(f"skipped: {message}" in spoken.out + spoken.err for message in MESSAGES)  # whichever process met them


def test_shared_interrupted_and_continued(run, whole, monkeypatch, tmp_path):
    shared(monkeypatch, 2)
    pictures, file = Pictures(stop=6), tmp_path / "kept.nc"
    with pytest.raises(KeyboardInterrupt):
        run(pictures, unfinished=file, progress=False)
    assert (tmp_path / "kept.0-of-2.nc").is_file() and not file.exists()
    same(run(pictures, unfinished=file, progress=False), whole)
    unfinished_files.discard([file])
    assert list(tmp_path.iterdir()) == []


def test_shares_that_do_not_belong_together_are_refused():
    measurement, other = (Brightness(Pictures(), size) for size in (2, 3))
    states = [stream_share(measurement, Processes(i, 2), progress=False) for i in range(2)]
    with pytest.raises(UserError, match=r"shards \[0\] are here, 0 … 1 are needed"):
        join(states[:1], measurement.finish)
    with pytest.raises(UserError, match=r"shards \[1, 1\] are here"):
        join([states[1]] * 2, measurement.finish)
    with pytest.raises(UserError, match="different runs"):
        join([states[0], stream_share(other, Processes(1, 2), progress=False)], measurement.finish)
    with pytest.raises(UserError, match=r"shards \[1\] are not complete"):
        join([states[0], states[1].assign_attrs(complete=0)], measurement.finish)


# interrupted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 3, 5, 8])
def test_ctrl_c_and_on_to_the_same_bits(name, run, whole, tmp_path, stop):
    pictures, file = Pictures(stop=stop), tmp_path / "kept.nc"
    with pytest.raises(KeyboardInterrupt):
        run(pictures, unfinished=file, progress=False)
    assert file.exists() == (stop > (0 if name in IN_HALVES else 1))  # only the batch in flight is lost
    pictures.read.clear()
    same(run(pictures, unfinished=file, progress=False), whole)
    if name not in IN_HALVES:
        assert sorted(pictures.read) == list(range(stop // 2 * 2, COUNT))
    pictures.read.clear()
    same(run(pictures, unfinished=file, progress=False), whole)
    assert pictures.read == []  # a finished run reads nothing again


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError, MemoryError])
@pytest.mark.parametrize("before", [True, False])
def test_an_error_while_a_batch_is_counted_loses_at_most_that_batch(monkeypatch, tmp_path, error, before):
    update, left, file = Brightness.update, [3], tmp_path / "kept.nc"

    def stopped(measurement, total, pictures):
        left[0] -= 1
        if before and not left[0]:
            raise error
        total = update(measurement, total, pictures)
        if not left[0]:
            raise error
        return total

    whole = MEASUREMENTS["brightness"](Pictures(), progress=False)
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(Brightness, "update", stopped)
        MEASUREMENTS["brightness"](Pictures(), unfinished=file, progress=False)
    assert xr.load_dataset(file, engine="h5netcdf").attrs["batches_done"] == 2
    same(MEASUREMENTS["brightness"](Pictures(), unfinished=file, progress=False), whole)


def test_another_run_is_refused_with_what_differs(run, tmp_path):
    pictures, file = Pictures(stop=4), tmp_path / "kept.nc"
    with pytest.raises(KeyboardInterrupt):
        run(pictures, unfinished=file, progress=False)
    with pytest.raises(
        UserError, match=r"kept\.nc holds an interrupted run with other batch size \([24] → [36]\)\. Repeat"
    ):
        run(pictures, batch_size=3, unfinished=file, progress=False)


@pytest.mark.parametrize("damage", ["other bytes", "cut off", "one bit"])
def test_a_damaged_state_is_set_aside_and_the_run_starts_anew(damage, run, whole, tmp_path):
    pictures, file = Pictures(stop=4), tmp_path / "kept.nc"
    with pytest.raises(KeyboardInterrupt):
        run(pictures, unfinished=file, progress=False)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"other bytes": b"no netcdf", "cut off": bytes(content[:3000]), "one bit": bytes(content)}[damage]
    file.write_bytes(damaged)
    with pytest.warns(
        UserWarning, match=r"kept\.nc is damaged: its checksum .* kept as .*kept\.nc\.damaged, and the run"
    ):
        same(run(pictures, unfinished=file, progress=False), whole)
    assert (tmp_path / "kept.nc.damaged").read_bytes() == damaged


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from measurements import MEASUREMENTS, Pictures
from clearclip.runs import stream, unfinished_files

name, file, moment = sys.argv[2:]
write, replace, left = unfinished_files.write, Path.replace, [3]
stream.SAVE_EVERY = -1

def die(*_):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

def replace_or_die(path, other):
    die()
    return replace(path, other)

def write_and_die(*given):
    write(*given)
    die()

if moment == "between":
    unfinished_files.write = write_and_die
else:
    Path.replace = replace_or_die
MEASUREMENTS[name](Pictures(), batch_size=1, unfinished=Path(file), progress=False)
"""


@pytest.mark.parametrize(
    ("name", "moment"), [("statistics", "between"), ("evaluation", "within"), ("prototypes", "within")]
)
def test_killed_between_or_within_two_writes(name, moment, tmp_path):
    file, run = tmp_path / "kept.nc", MEASUREMENTS[name]
    words = [sys.executable, "-c", KILLED, str(Path(__file__).parent), name, str(file), moment]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = xr.load_dataset(file, engine="h5netcdf")
    assert state.attrs["batches_done"] == (3 if moment == "between" else 2)
    pictures = Pictures()
    continued = run(pictures, batch_size=1, unfinished=file, progress=False)
    assert len(pictures.read) == COUNT - state.attrs["batches_done"]
    same(continued, run(Pictures(), batch_size=1, progress=False))
    unfinished_files.discard([file])
    assert list(tmp_path.iterdir()) == []


# batches and order ---------------------------------------------------------------------------------------------------


def test_a_batch_of_one_differs_only_by_the_librarys_own_rounding(run, whole):
    """Matrix products of other shapes round differently, so a pixel between two classes may turn."""
    one = run(Pictures(), batch_size=1, progress=False)
    assert one.attrs["skipped"] == whole.attrs["skipped"]
    assert set(one.data_vars) == set(whole.data_vars)
    for name, values in one.data_vars.items():
        if name in ("confusion", "intersection", "union"):
            assert np.abs(values - whole[name]).sum() <= 0.002 * whole[name].sum()
        elif name in ("iou", "miou", "pixel_accuracy"):
            np.testing.assert_allclose(values, whole[name], atol=0.5)
        else:
            np.testing.assert_allclose(values, whole[name], rtol=1e-4, atol=1e-5)


def test_pictures_in_another_order_give_the_same_bits(name, run):
    """One by one, so that no picture meets another; prototypes keep their halves."""
    order = [4, 7, 2, 5, 8, 1, 0, 3, 6] if name in IN_HALVES else np.random.default_rng(1).permutation(COUNT).tolist()
    given, other = (run(Pictures(order=pictures), batch_size=1, progress=False) for pictures in (range(COUNT), order))
    assert sorted(json.loads(other.attrs["skipped"])) == MESSAGES
    if "image" in other.dims:
        assert other.image.values.tolist() == [f"picture {i}" for i in order if i not in BROKEN]
        other = other.sel(image=given.image)
    drop = [name for name in ("data_sha256",) if name in given.coords]
    xr.testing.assert_equal(other.drop_vars(drop), given.drop_vars(drop))


# the progress bar ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "score"),
    [("brightness", "sum "), ("evaluation", "mIoU clip "), ("prototypes", "best X_")],
)
def test_the_running_score_is_shown_while_it_runs(name, score, monkeypatch, capsys):
    monkeypatch.setattr(streaming, "BAR_EVERY", -1)
    MEASUREMENTS[name](Pictures())
    spoken = capsys.readouterr().err
    assert score in spoken and "9/9" in spoken.replace("5/5", "9/9")


def test_a_state_is_saved_every_few_seconds(monkeypatch, tmp_path):
    files = []
    monkeypatch.setattr(unfinished_files, "write", lambda state, file: files.append(state.attrs["batches_done"]))
    MEASUREMENTS["brightness"](Pictures(), unfinished=tmp_path / "kept.nc", progress=False)
    monkeypatch.setattr(streaming, "SAVE_EVERY", -1)
    MEASUREMENTS["brightness"](Pictures(), unfinished=tmp_path / "kept.nc", progress=False)
    assert files == [5, 1, 2, 3, 4, 5, 5]
