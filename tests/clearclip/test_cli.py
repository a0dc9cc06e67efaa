"""From options to what the rooms take."""

import pytest

from clearclip.cli import Labelled, Result, dataset_file, datasets
from clearclip.errors import UserError


@pytest.mark.parametrize("names", [(), ("scenes", "scenes")])
def test_each_data_set_once(names):
    with pytest.raises(UserError, match="each name once"):
        datasets(Labelled(names))


def test_the_output_is_netcdf(tmp_path):
    assert dataset_file(Result(tmp_path / "alpha.nc")) == tmp_path / "alpha.nc"
    with pytest.raises(UserError, match=r"name a \.nc file"):
        dataset_file(Result(tmp_path / "x.csv"))
