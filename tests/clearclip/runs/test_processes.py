"""Two processes on this machine, started as a user starts them, against one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from clearclip.runs.processes import Processes, processes
from clearclip.runs.results import discard, unfinished


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def torchrun(*words, cwd):
    """`torchrun --nproc-per-node 2 -m …` with gloo on the CPU."""
    start = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(), "-m")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *start, *words], cwd=cwd, capture_output=True, text=True, env=env, timeout=300
    )


def alone(monkeypatch, folder, module, *words):
    """The same command in this process."""
    from importlib import import_module

    from clearclip.cli import run

    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", [module, *words])
    with pytest.raises(SystemExit) as stopped:
        run(import_module(module).main)
    assert stopped.value.code == 0


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read(file):
    return xr.load_dataset(file, engine="h5netcdf")


TEXTS = ("--prompts", "photo", "--text-cache", "texts")
COMMANDS = {
    "clearclip.evaluate": ("--dataset", "scenes", "--recipe", "clip", "sclip", "--batch-size", "2", "--limit", "7", *TEXTS),
    "analysis.entropy": ("--model", "clip_tiny", "--images", "{photos}", "--batch-size", "2"),
    "analysis.alpha": ("--dataset", "scenes", "scenes_background", "--limit", "3", "--batch-size", "2", *TEXTS),
}  # fmt: skip


@pytest.mark.parametrize("module", COMMANDS)
def test_two_processes_give_the_result_of_one(module, photos, tmp_path, monkeypatch, capfd):
    (photos / "photo_2.png").write_bytes(b"broken")
    (photos / "photo_5.png").write_bytes(b"broken")
    words = [word.replace("{photos}", str(photos)) for word in (*COMMANDS[module], "--device", "cpu")]
    both, one = tmp_path / "both", tmp_path / "one"
    both.mkdir()
    done = torchrun(module, *words, cwd=both)
    assert done.returncode == 0, done.stderr
    alone(monkeypatch, one, module, *words)
    printed = capfd.readouterr().out
    spoken = [line for line in done.stdout.splitlines() if not line.startswith("skipped: ")]
    assert spoken == [line for line in printed.splitlines() if not line.startswith("skipped: ")]
    results = [name for name in files(both) if not name.startswith("texts/")]
    assert results == [name for name in files(one) if not name.startswith("texts/")] and len(results) in (2, 3)
    (name,) = [name for name in results if name.endswith(".nc")]
    ours, expected = read(both / name), read(one / name)
    xr.testing.assert_equal(ours, expected)  # bit by bit, with all coordinates
    assert ours.attrs["skipped"] == expected.attrs["skipped"]
    if module == "analysis.entropy":  # whichever process met them, broken pictures are named
        assert "skipped 2 pictures" in done.stdout and ours.sizes["image"] == 7
        assert all(f"photo_{i}.png" in done.stdout + done.stderr for i in (2, 5))
    (csv,) = [name for name in results if name.endswith(".csv")]
    assert (both / csv).read_text() == (one / csv).read_text()


def test_a_mistake_ends_all_processes(tmp_path):
    done = torchrun("clearclip.evaluate", "--dataset", "scenes", "--threshold", "0.5", *TEXTS, cwd=tmp_path)
    assert done.returncode != 0 and "scenes has no class background" in done.stderr
    assert [name for name in files(tmp_path) if not name.startswith("texts/")] == []


def test_shares_are_disjoint_complete_and_even():
    for count in range(1, 6):
        shares = [Processes(i, count).share(list(range(11))) for i in range(count)]
        assert sorted(i for share in shares for i in share) == list(range(11))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_every_process_has_a_file_of_its_own_and_all_are_discarded(tmp_path):
    file = unfinished(tmp_path / "evaluate.nc", "open_clip:ViT-B-16/laion2b", "scenes")
    other = unfinished(tmp_path / "evaluate.nc", "open_clip:ViT-B-16/laion2b", "scenes_background")
    own = [Processes(i, 3).own(file) for i in range(3)]
    assert len({file, *own}) == 4 and Processes().own(file) == file
    half = file.with_name(f".{own[1].name}.123.tmp")  # of a process that was killed while it wrote
    for one in (file, other, half, *own):
        one.touch()
    discard([file])
    assert files(tmp_path) == [other.name]


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.cache_clear()
    group = processes()
    assert (group.number, group.count, group.gather("x"), group.shard) == (0, 1, ["x"], (0, 1))
    assert group.own(Path("a.nc")) == Path("a.nc")
    group.leave_the_rest_to_the_first()  # nobody else is there
    assert group.count == 1
