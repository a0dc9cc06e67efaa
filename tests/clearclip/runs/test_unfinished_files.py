"""States of interrupted runs: what cannot be true is not believed, and what is not wanted any more can be set aside."""

import os
import resource

import pytest
from commands import files, here
from measurements import BROKEN, COUNT, Brightness, Pictures, brightness

from clearclip import outputs
from clearclip.runs import stream, unfinished_files
from clearclip.runs.reservation import reserved


@pytest.fixture
def interrupted(tmp_path):
    """The file of a run that has seen six pictures, one of which is broken."""
    file = tmp_path / "kept.nc"
    with pytest.raises(KeyboardInterrupt):
        brightness(Pictures(stop=6), unfinished=file, progress=False)
    return file


NONSENSE = {
    "batches": ({"batches_done": -1}, "-1 of 5 batches"),
    "more batches": ({"batches_done": 6}, "6 of 5 batches"),
    "pictures": ({"images": 6}, "6 used and 1 skipped pictures in batches of 6"),
    "another batch": ({"batches_done": 2}, "5 used and 1 skipped pictures in batches of 4"),
    "skipped twice": ({"images": 4, "skipped": '["a", "b"]', "skipped_indices": "[2, 2]"}, "skips pictures"),
    "skipped elsewhere": ({"skipped_indices": "[7]"}, "skips pictures"),
    "no message": ({"skipped": "[]"}, "counters cannot be read"),
    "no number": ({"batches_done": "some"}, "counters cannot be read"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_counters_that_make_no_sense_are_not_believed(case, interrupted, tmp_path):
    attributes, reason = NONSENSE[case]
    unfinished_files.write(state_in(interrupted).assign_attrs(attributes), interrupted)
    with pytest.warns(UserWarning, match=f"kept.nc is damaged: .*{reason}.*kept.nc.damaged"):
        result = brightness(Pictures(), unfinished=interrupted, progress=False)
    assert result.identical(brightness(Pictures(), progress=False).assign_attrs(result.attrs))
    assert int(result.images) == COUNT - len(BROKEN)
    assert files(tmp_path) == ["kept.nc", "kept.nc.damaged"]


def test_a_state_of_another_shape_is_not_believed(interrupted):
    unfinished_files.write(state_in(interrupted).isel(color=[0, 1]), interrupted)
    with pytest.warns(UserWarning, match="its total has another shape"):
        brightness(Pictures(), unfinished=interrupted, progress=False)


def state_in(file):
    """The state that a file holds."""
    key = unfinished_files.run_key(Brightness(Pictures(), 2).key() | {"processes": 1})
    return unfinished_files.read(file, key, lambda state: "")


def test_nothing_that_was_set_aside_is_overwritten(tmp_path):
    names = []
    for content in ("a", "b", "c"):
        (tmp_path / "kept.nc").write_text(content)
        names.append(unfinished_files.set_aside(tmp_path / "kept.nc", "damaged").name)
    assert names == ["kept.nc.damaged", "kept.nc.damaged-2", "kept.nc.damaged-3"]
    assert [(tmp_path / name).read_text() for name in names] == ["a", "b", "c"]


def test_another_run_that_has_counted_nothing_is_replaced(tmp_path):
    file = tmp_path / "kept.nc"
    with pytest.raises(KeyboardInterrupt):
        brightness(Pictures(broken=[0, 1], stop=2), unfinished=file, progress=False)
    assert file.is_file()
    assert int(brightness(Pictures(), batch_size=3, unfinished=file, progress=False).images) == COUNT - len(BROKEN)


# a full disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited():
    """Sets how many bytes a file can have."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_run_that_cannot_be_kept_goes_on_and_says_so(limited, monkeypatch, tmp_path):
    monkeypatch.setattr(stream, "SAVE_EVERY", -1)
    whole = brightness(Pictures(), progress=False)
    limited(3000)
    with pytest.warns(UserWarning, match=r"cannot be kept in .*kept\.nc: File too large\. It continues"):
        result = brightness(Pictures(), unfinished=tmp_path / "kept.nc", progress=False)
    assert result.identical(whole.assign_attrs(result.attrs)) and files(tmp_path) == []


def test_a_command_says_it_once(limited, monkeypatch, photos, tmp_path):
    monkeypatch.setattr(stream, "SAVE_EVERY", -1)
    limited(5000)
    done = here("analysis.entropy", *ENTROPY, "--images", photos, cwd=tmp_path)
    assert done.stderr.count("note: the run cannot be kept in") == 1
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "Nothing of the run is kept." in done.stderr
    assert not [name for name in files(tmp_path) if not name.startswith("photos/")]


def test_a_result_that_cannot_be_written_leaves_the_run_to_go_on_from(monkeypatch, photos, tmp_path):
    write, left = outputs.write, [None]

    def full(path, content):
        if path.name == "entropy.nc" and left:
            left.pop()
            raise outputs.Unwritable(path, OSError(28, os.strerror(28)))
        write(path, content)

    monkeypatch.setattr(outputs, "write", full)
    words = (*ENTROPY, "--images", photos)
    done = here("analysis.entropy", *words, cwd=tmp_path)
    assert done.returncode == 2 and "entropy.nc cannot be written: No space left on device. Make room" in done.stderr
    assert "It goes on from what is kept in results/.entropy.nc.clip_tiny.unfinished.nc" in done.stderr
    monkeypatch.setattr("analysis.probes.collector.Collector.update", None)  # nothing is measured again
    assert here("analysis.entropy", *words, cwd=tmp_path).returncode == 0
    assert {"results/entropy.nc", "results/entropy.csv"} <= set(files(tmp_path))


# one run at a time, and starting anew --------------------------------------------------------------------------------


ENTROPY = ("--model", "clip_tiny", "--image-size", "32", "--batch-size", "1", "--device", "cpu")


def test_an_option_that_was_wrong_is_mended_with_restart(photos, tmp_path):
    words = (*ENTROPY, "--images", photos)
    (photos / "photo_9.png").write_bytes(b"broken")
    first = here("analysis.entropy", *words, "--strict", cwd=tmp_path)
    assert first.returncode == 2 and "photo_9.png" in first.stderr
    refused = here("analysis.entropy", *words, "--precision", "bf16", cwd=tmp_path)
    assert refused.returncode == 2 and "with other precision (fp32 → bf16). " in refused.stderr
    assert "--restart" in refused.stderr
    done = here("analysis.entropy", *words, "--precision", "bf16", "--restart", cwd=tmp_path)
    assert done.returncode == 0 and "clip_tiny.unfinished.nc is set aside as" in done.stderr
    assert "results/.entropy.nc.clip_tiny.unfinished.nc.dropped" in files(tmp_path)


def test_only_what_is_left_for_this_output_is_set_aside(tmp_path):
    mine, others = (unfinished_files.beside(tmp_path / name, "clip", "voc20") for name in ("v1.nc", "v1.2.nc"))
    part = mine.with_name(f"{mine.stem}.second.nc")
    for file in (mine, part, others):
        file.touch()
    with pytest.warns(UserWarning, match="is set aside as"), reserved(tmp_path / "v1.nc", restart=True):
        assert files(tmp_path) == sorted([others.name, ".v1.nc.lock", f"{mine.name}.dropped", f"{part.name}.dropped"])
