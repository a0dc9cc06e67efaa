"""Two processes on this machine, started as a user starts them, against one."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from commands import files, here, process
from PIL import Image

from clearclip import torchrun as torchrun_says
from clearclip.errors import Finished, UserError
from clearclip.runs import processes as meeting
from clearclip.runs.processes import Processes, processes
from clearclip.runs.unfinished_files import beside, discard


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def torchrun(*words, cwd):
    """`torchrun --nproc-per-node 2 -m …` with gloo on the CPU."""
    start = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(), "-m")
    return process(*start, *words, cwd=cwd)


DEAD = 2**30  # more than any process number


def read(file):
    return xr.load_dataset(file, engine="h5netcdf")


ENTROPY = ("--model", "clip_tiny", "--limit", "2", "--image-size", "32", "--device", "cpu")
TEXTS = ("--prompts", "photo", "--text-cache", "texts")
COMMANDS = {
    "clearclip.evaluate": ("--dataset", "{folder}", "scenes", "--recipe", "clip", "sclip",
                           "--batch-size", "2", "--limit", "5", *TEXTS),
    "analysis.alpha": ("--dataset", "{folder}", "--batch-size", "2", *TEXTS),
    "analysis.entropy": ("--model", "clip_tiny", "--images", "{photos}", "--batch-size", "2"),
    "analysis.prototypes": ("--model", "dino_tiny", "--dataset", "{folder}", "--layers", "1", "6", "--batch-size", "1"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, photos):
    """The photographs with labels; broken is one for the first process and one for the second."""
    root = tmp_path / "mine"
    (root / "labels").mkdir(parents=True)
    (root / "classes.txt").write_text("cat\ngrass\n")
    for photo in photos.iterdir():
        with Image.open(photo) as image:
            label = np.arange(image.width * image.height).reshape(image.height, image.width) // 500 % 2
        Image.fromarray(label.astype(np.uint8)).save(root / "labels" / photo.name)
    for i in (2, 4, 5):
        (photos / f"photo_{i}.png").write_bytes(b"broken")
    (root / "images").symlink_to(photos)
    return root


@pytest.mark.parametrize("module", COMMANDS)
def test_two_processes_give_the_result_of_one(module, photos, folder, tmp_path):
    words = [word.format(photos=photos, folder=folder) for word in (*COMMANDS[module], "--device", "cpu")]
    both, one = tmp_path / "both", tmp_path / "one"
    both.mkdir()
    one.mkdir()
    done = torchrun(module, *words, cwd=both)
    assert done.returncode == 0, done.stderr
    alone = here(module, *words, cwd=one)
    assert alone.returncode == 0, alone.stderr
    printed = alone.stdout
    spoken = [line for line in done.stdout.splitlines() if not line.startswith("skipped: ")]
    assert spoken == [line for line in printed.splitlines() if not line.startswith("skipped: ")]
    assert any(line.startswith("skipped 3 pictures") or line.startswith("skipped 2 pictures") for line in spoken)
    results = files(both)
    assert results == files(one) and len(results) in (2, 3)
    (name,) = [name for name in results if name.endswith(".nc")]
    ours, expected = read(both / name), read(one / name)
    xr.testing.assert_equal(ours, expected)  # bit by bit, with all coordinates
    assert ours.attrs["skipped"] == expected.attrs["skipped"]
    skipped = [line for line in printed.splitlines() if line.startswith("skipped: ")]
    assert [line.removeprefix("skipped: ") for line in skipped] == json.loads(ours.attrs["skipped"])
    for line in skipped:  # whichever process met them, broken pictures are named
        assert line in done.stdout + done.stderr
    (csv,) = [name for name in results if name.endswith(".csv")]
    assert (both / csv).read_text() == (one / csv).read_text()


def test_a_mistake_ends_all_processes(tmp_path):
    done = torchrun("clearclip.evaluate", "--dataset", "scenes", "--threshold", "0.5", *TEXTS, cwd=tmp_path)
    assert done.returncode != 0 and "scenes has no class background" in done.stderr
    assert files(tmp_path) == []


def test_shares_are_disjoint_complete_and_even():
    for count in range(1, 6):
        shares = [Processes(i, count).share(list(range(11))) for i in range(count)]
        assert sorted(i for share in shares for i in share) == list(range(11))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_every_process_has_a_file_of_its_own_and_all_are_discarded(tmp_path):
    file = beside(tmp_path / "evaluate.nc", "open_clip:ViT-B-16/laion2b", "scenes")
    other = beside(tmp_path / "evaluate.nc", "open_clip:ViT-B-16/laion2b", "scenes_background")
    own = [Processes(i, 3).own(file) for i in range(3)]
    assert len({file, *own}) == 4 and Processes().own(file) == file
    half = file.with_name(f".{own[1].name}.{DEAD}.tmp")  # of a process that was killed while it wrote
    for one in (file, other, half, *own):
        one.touch()
    discard([file])
    assert files(tmp_path) == [other.name]


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.cache_clear()
    group = processes()
    assert (group.number, group.count, group.gather("x")) == (0, 1, ["x"])
    assert group.own(Path("a.nc")) == Path("a.nc")
    group.leave_the_rest_to_the_first()  # nobody else is there
    assert group.count == 1


@pytest.fixture
def environment(monkeypatch):
    """An environment without torchrun's variables, in which processes meet anew."""
    for name in torchrun_says.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    processes.cache_clear()
    yield monkeypatch
    processes.cache_clear()


@pytest.mark.parametrize("told", [{}, {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}, {"RANK": "three"}])
def test_a_number_of_processes_that_do_not_meet_is_one_process_with_a_note(told, environment):
    for name, value in {"WORLD_SIZE": "4", **told}.items():
        environment.setenv(name, value)
    with pytest.warns(UserWarning, match=r"WORLD_SIZE is 4, but RANK.* takes all pictures alone"):
        assert (processes().number, processes().count) == (0, 1)


def test_a_command_with_what_slurm_sets_runs_alone_and_speaks(tmp_path, environment):
    environment.setenv("WORLD_SIZE", "4")
    environment.setenv("RANK", "2")
    done = here("analysis.entropy", *ENTROPY, cwd=tmp_path)
    assert done.returncode == 0 and "note: WORLD_SIZE is 4, but MASTER_ADDR, MASTER_PORT do not say" in done.stderr
    assert "entropy.nc" in done.stdout


def test_processes_that_do_not_meet_say_where(environment):
    where = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    for name, value in where.items():
        environment.setenv(name, value)
    environment.setattr(meeting, "MEET", timedelta(seconds=1))
    with pytest.raises(UserError, match=r"process 1 of 2 did not meet the others at 127\.0\.0\.1:"):
        processes()


LATE = """
import os, sys, time
from datetime import timedelta
from clearclip.cli import run
from clearclip.runs import processes

processes.MEET = timedelta(seconds=3)  # what a collective waits for without a word about it

def main():
    group = processes.processes()
    if group.number == 1:
        if sys.argv[1] == "late":
            time.sleep(5)
        else:
            os._exit(7)
    print(group.gather(group.number))

run(main)
"""


@pytest.mark.parametrize("other", ["late", "dead"])
def test_one_process_waits_for_the_other_until_it_dies(other, tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with ThreadPoolExecutor() as pool:
        begin = [pool.submit(process, "late.py", other, cwd=tmp_path, RANK=str(i), **where) for i in range(2)]
        first, _ = (begun.result() for begun in begin)
    assert "Traceback" not in first.stderr
    if other == "late":
        assert first.returncode == 0 and "[0, 1]" in first.stdout
    else:
        assert first.returncode == 2 and "process 0 of 2 cannot reach the others" in first.stderr


def test_all_but_the_first_are_finished(monkeypatch):
    for call in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(f"torch.distributed.{call}", lambda **_: None)
    group = Processes(0, 2)
    group.leave_the_rest_to_the_first()
    assert group.count == 1
    with pytest.raises(Finished):
        Processes(1, 2).leave_the_rest_to_the_first()
