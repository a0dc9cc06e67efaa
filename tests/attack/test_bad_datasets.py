"""Results (.nc) that are damaged or of something else, given back to the commands that draw them."""

from __future__ import annotations

import os
import shutil

import h5py
import numpy as np
import pytest
import xarray as xr
from forked import clean, command
from material import damaged, labelled, pictures

MADE = {  # a command that writes a result, and draws one that is there
    "analysis.entropy": ("--model", "clip_tiny", "--images", "pictures"),
    "analysis.compare": ("--model", "clip_tiny", "--dataset", "data", "--text-cache", "texts"),
    "analysis.prototypes": ("--model", "clip_tiny", "--dataset", "data"),
    "analysis.similarity": ("--model", "clip_tiny", "--images", "pictures", "--layers", "1"),
    "analysis.attention": ("--model", "clip_tiny", "--images", "pictures", "--limit", "1", "--layers", "1"),
    "analysis.featuremaps": ("--model", "clip_tiny", "--images", "pictures", "--limit", "1", "--layers", "1"),
    "analysis.maps": ("--model", "clip_tiny", "--dataset", "data", "--text-cache", "texts", "--limit", "2"),
}
DAMAGES = 25


def change(edit):
    """The result with something else in it, written as xarray does."""

    def apply(path):
        with xr.open_dataset(path, engine="h5netcdf") as file:
            dataset = file.load()
        edit(dataset).to_netcdf(path, engine="h5netcdf")

    return apply


def first(dataset):
    return next(iter(dataset.data_vars))


def linked(path):
    with h5py.File(path, "r+") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/")


def enormous(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("entropy", (10**6, 10**6, 10), "f8", chunks=(1000, 1000, 1))


CHANGES = {
    "no attributes": change(lambda d: d.drop_attrs()),
    "no variables": change(lambda d: d.drop_vars(list(d.data_vars))),
    "no coordinates": change(lambda d: d.drop_vars(list(d.coords))),
    "nothing": change(lambda d: xr.Dataset()),
    "one variable less": change(lambda d: d.drop_vars(first(d))),
    "one dimension less": change(lambda d: d.isel({next(iter(d[first(d)].dims)): 0}, drop=True)),
    "a dimension of size 0": change(lambda d: d.isel({next(iter(d[first(d)].dims)): slice(0)})),
    "renamed dimension": change(lambda d: d.rename({next(iter(d[first(d)].dims)): "somewhere"})),
    "renamed variable": change(lambda d: d.rename({first(d): "something"})),
    "transposed": change(lambda d: d.transpose(*[*d.dims][::-1])),
    "text for numbers": change(lambda d: d.assign({first(d): d[first(d)].astype(str)})),
    "integers for numbers": change(lambda d: d.assign({first(d): d[first(d)].astype(int)})),
    "not a number": change(lambda d: d.assign({first(d): d[first(d)].astype(float) * np.nan})),
    "infinite": change(lambda d: d.assign({first(d): d[first(d)].astype(float) + np.inf})),
    "attributes are numbers": change(lambda d: d.assign_attrs(dict.fromkeys(d.attrs, 3))),
    "attributes are no JSON": change(lambda d: d.assign_attrs(dict.fromkeys(d.attrs, "{"))),
    "external link": linked,
    "enormous": enormous,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no result"),
    "NetCDF 3": lambda path: xr.Dataset({"entropy": ("layer", [1.0])}).to_netcdf(path, engine="scipy"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a loop": lambda path: (path.unlink(), path.symlink_to(path.name)),
    "missing": lambda path: path.unlink(),
}


@pytest.fixture(scope="module", params=MADE)
def made(request, tmp_path_factory):
    """A command and a folder with its result."""
    folder = tmp_path_factory.mktemp(request.param) / "here"
    folder.mkdir()
    pictures(folder / "pictures", 2)
    labelled(folder / "data", 2)
    clean(command(request.param, *MADE[request.param], "--output", "result.nc", cwd=folder), (0,))
    return request.param, folder / "result.nc"


@pytest.mark.parametrize("name", CHANGES)
def test_a_result_of_another_shape(name, made, cwd):
    door, result = made
    shutil.copy(result, cwd / "result.nc")
    CHANGES[name](cwd / "result.nc")
    ended = command(door, "--data", "result.nc", "--figure", "figure.png", cwd=cwd)
    clean(ended)
    assert ended.code == 0 or "result.nc" in ended.err, ended.err


@pytest.mark.parametrize("number", range(DAMAGES))
def test_a_damaged_result(number, made, cwd):
    door, result = made
    _, data = [*damaged(result.read_bytes(), 11, DAMAGES)][number]
    (cwd / "result.nc").write_bytes(data)
    clean(command(door, "--data", "result.nc", "--figure", "figure.png", cwd=cwd))


@pytest.mark.parametrize("door", MADE)
def test_the_result_of_another_command(door, made, cwd):
    writer, result = made
    clean(command(door, "--data", result, "--figure", "figure.png", cwd=cwd), (0,) if door == writer else (0, 2))
