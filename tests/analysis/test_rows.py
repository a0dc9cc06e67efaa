"""Result files for pandas; that the rows are those of the .csv is tested where each command runs."""

import pytest
import xarray as xr

from analysis import collect, read_rows
from analysis.rows import TIDY
from clearclip.errors import UserError
from clearclip.runs import results
from clearclip.runs.formats import FORMATS


def test_every_kind_of_result_has_rows():
    assert set(TIDY) == set(FORMATS)


def test_the_numbers_are_those_of_the_dataset(tmp_path):
    dataset = collect("clip_tiny", ["photographs", "scenes"], layers=[2, 6], limit=3, progress=False)
    results.write(dataset, tmp_path / "a.nc")
    rows = read_rows(str(tmp_path / "a.nc"))
    keys = ["statistic", "source", "layer", "feature", "tokens"]
    values = rows.set_index(keys)["mean"]
    assert len(rows) == len(values.index.unique()) == 3 * 2 * 2 * 3 * 2
    for key, value in values.items():
        statistic, source, layer, feature, tokens = key
        pictures = dataset.sel(image=dataset.source == source)
        one = pictures[statistic].sel(layer=layer, feature=feature, tokens=tokens).values
        assert value == pytest.approx(float(one.mean()), rel=1e-6)


def test_what_has_no_rows_is_refused_with_its_name(tmp_path):
    path = tmp_path / "a.nc"
    with pytest.raises(UserError, match=r"a\.nc: no such result file"):
        read_rows(path)
    path.write_text("model,layer")
    with pytest.raises(UserError, match=r"a\.nc is not a NetCDF 4 file"):
        read_rows(path)
    xr.Dataset({"temperature": ("time", [1.0])}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(UserError, match=r"a\.nc is not a result of this toolkit: name a file that holds statistics, "):
        read_rows(path)
    whole = collect("clip_tiny", limit=1, layers=[6], progress=False)
    whole.drop_vars("weights_sha256").to_netcdf(path, engine="h5netcdf")
    with pytest.raises(UserError, match=r"a\.nc does not hold statistics: it lacks weights_sha256"):
        read_rows(path)
    results.write(collect("clip_tiny", statistics=["channel_mean"], limit=1, layers=[6], progress=False), path)
    with pytest.raises(UserError, match=r"a\.nc has averages over pictures only"):
        read_rows(path)
