"""Files that are damaged, foreign or hostile: each is refused with its name, or gives the numbers that it should."""

import runpy
import shutil
from collections import Counter
from pathlib import Path

import pytest
import xarray as xr
from commands import here
from damaged import DOORS, altered, results_of_all_kinds, spoiled

import clearclip
from analysis import collect, read_rows, table
from analysis.probes import store
from analysis.probes.images import pictures
from analysis.probes.similarity import similarity_maps
from analysis.textspan import table as text_table
from clearclip.errors import UserError
from clearclip.methods.recipes import Recipe
from clearclip.runs import results, validation
from clearclip.runs.formats import FORMATS, KNOBS
from figures.runs import RUNS

ROOT = Path(__file__).parents[1]
READERS = {
    "statistics": RUNS["statistics"].read,
    "stream statistics": store.read,
    "label maps": RUNS["maps_fig7"].read,
    "sweep": RUNS["ablation"].read,
    "prototypes": RUNS["prototypes"].read,
    "head prototypes": RUNS["prototypes"].read,
    "texts of heads": text_table.read,
    "attention": lambda path: results.read(path, "attention"),
    "feature maps": RUNS["featuremaps"].read,
    "PCA maps": lambda path: results.read(path, "PCA maps"),
    **{
        kind: lambda path, kind=kind: results.read(path, kind)
        for kind in ("similarity", "attribution", "components", "peaks")
    },
}


@pytest.fixture(scope="module")
def valid():
    return results_of_all_kinds()


def read(kind, path, original):
    """How a reader answers a changed file: "refused", "same", or what it does wrong."""
    try:
        dataset = READERS[kind](path)
    except UserError as error:
        return "refused" if path.name in str(error) else f"does not name the file: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    changed = [
        name
        for name in FORMATS[kind].variables
        if name in dataset and name in original and not dataset[name].variable.equals(original[name].variable)
    ]
    return f"reads other numbers in {changed}" if changed else "same"


def drawn(kind, path, folder):
    """How the command answers a changed file."""
    try:
        done = here(DOORS[kind], "--data", path, "--figure", folder / "drawn.png", cwd=folder)
    except Exception as error:
        return f"drawing: {type(error).__name__}: {error}"
    if done.returncode == 0 or (done.returncode == 2 and path.name in done.stderr):
        return "drawn" if done.returncode == 0 else "refused"
    return f"drawing: {done.stderr}"


def in_rows(path):
    """How `analysis.read_rows` answers a changed file."""
    try:
        return "table" if read_rows(path).shape[1] > 1 else "a single column"
    except UserError as error:
        return "refused" if path.name in str(error) else f"does not name the file: {error}"
    except Exception as error:
        return f"rows: {type(error).__name__}: {error}"


def in_python(dataset):
    """How `analysis.table` answers a changed Dataset."""
    try:
        table(dataset)
    except UserError:
        return "refused"
    except Exception as error:
        return f"table: {type(error).__name__}: {error}"
    return "table"


def checked(kind, dataset):
    """How a Dataset that was read is answered."""
    try:
        validation.check(dataset, kind, "result.nc")
    except UserError as error:
        return "refused" if "result.nc" in str(error) else f"does not name the file: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "same"


FINE = {"refused", "same", "drawn", "table"}


@pytest.mark.parametrize("kind", FORMATS)
def test_changed_datasets_are_refused_or_the_same(kind, valid, tmp_path):
    """Every change is checked, one in 24 goes through a file, and some of those that are accepted are drawn."""
    answers, path, original = {}, tmp_path / "result.nc", valid[kind]
    results.write(original, path)
    assert read(kind, path, original) == "same" and drawn(kind, path, tmp_path) == "drawn"
    for i, (change, make) in enumerate(altered(original, kind)):
        dataset = make()
        answers[change, "checked"] = answer = checked(kind, dataset)
        answers[change, "in Python"] = in_python(dataset)
        if i % 24 == 0 or (answer == "same" and change.removeprefix("no ") in FORMATS[kind].variables):
            dataset.to_netcdf(path, engine="h5netcdf")
            answers[change, "read"] = read(kind, path, original)
            if answers[change, "read"] == "same":
                answers[change, "drawn"] = drawn(kind, path, tmp_path)
                answers[change, "rows"] = in_rows(path)
    print(kind, Counter(answer if answer in FINE else "wrong" for answer in answers.values()))
    assert not {change: answer for change, answer in answers.items() if answer not in FINE}


@pytest.mark.parametrize("kind", ["statistics"])
def test_spoiled_files_are_refused_or_the_same(kind, valid, tmp_path):
    answers, path, original = {}, tmp_path / "result.nc", valid[kind]
    results.write(original, path)
    for fault, spoil in spoiled(path):
        spoil()
        answers[fault] = read(kind, path, original)
        if path.is_dir():
            shutil.rmtree(path)
        results.write(original, path)
    print(kind, Counter(answer if answer in FINE else "wrong" for answer in answers.values()))
    assert not {fault: answer for fault, answer in answers.items() if answer not in FINE}
    accepted = {fault for fault, answer in answers.items() if answer == "same"}
    assert accepted <= {fault for fault in answers if fault.startswith(("flipped", "truncated"))}, accepted


def test_results_say_their_format_and_newer_ones_ask_for_an_upgrade(valid, tmp_path):
    for kind, dataset in valid.items():
        results.write(dataset.isel(model=[0]), tmp_path / f"{kind}.nc")
        again = results.read(tmp_path / f"{kind}.nc")
        assert again.attrs["format"] == f"clearclip {kind} 1"
    newer = again.assign_attrs(format=f"clearclip {kind} 2")
    newer.to_netcdf(tmp_path / "newer.nc", engine="h5netcdf")
    with pytest.raises(UserError, match=r"newer\.nc.*upgrade"):
        results.read(tmp_path / "newer.nc", kind)


def test_another_kind_is_named_with_the_command_that_writes_what_is_wanted(valid, tmp_path):
    results.write(valid["sweep"], tmp_path / "sweep.nc")
    with pytest.raises(UserError, match=r"sweep\.nc holds a sweep, not attention maps.*python -m analysis\.attention"):
        results.read(tmp_path / "sweep.nc", "attention")
    with pytest.raises(UserError, match="lacks the dimension layer; it has model, image"):
        validation.check(valid["statistics"].isel(layer=0), "statistics")


def test_a_result_with_a_flipped_bit_never_gives_other_numbers(valid, tmp_path):
    path = tmp_path / "result.nc"
    results.write(valid["statistics"], path)
    content = bytearray(path.read_bytes())
    place = content.index(valid["statistics"].entropy.values.tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged: its checksum"):
        results.read(path)


def test_a_state_of_a_run_has_no_format(valid):
    assert not validation.stamp(valid["statistics"].isel(model=0, drop=True))


def test_layers_ascend_in_whatever_order_they_are_asked_for(valid):
    model, photos = clearclip.load("clip_tiny", random=True), pictures(["photographs"], 2)
    for got, kind in (
        (collect(model, photos, layers=[6, 5], progress=False), "statistics"),
        (similarity_maps(model, photos, (0.5, 0.5), [6, 5]), "similarity"),
    ):
        assert got.layer.values.tolist() == [5, 6]
        xr.testing.assert_equal(got[FIRST[kind]], valid[kind][FIRST[kind]])


FIRST = {"statistics": "entropy", "similarity": "similarity"}


def test_every_knob_of_a_recipe_is_in_the_table():
    coords = set(Recipe.to_coords([Recipe("clip")])) - {"recipe"}
    assert set(KNOBS) == coords


def test_the_tables_of_the_page_are_those_that_readers_check():
    script = runpy.run_path(str(ROOT / "docs/formats.py"))
    text = script["PAGE"].read_text("utf-8")
    assert script["page"](text) == text, "run python docs/formats.py"
