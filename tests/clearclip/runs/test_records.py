"""Records of pictures in the state of a run."""

import pytest
import xarray as xr

from clearclip.entries import Entry, Record
from clearclip.errors import UserError
from clearclip.runs import results
from clearclip.runs.records import contents_of, records_of, refuse_changed, with_records

RECORDS = {4: Record("12 3 4", "a" * 64), 1: Record("", "b" * 64), 0: Record("größer", "c" * 64)}


@pytest.mark.parametrize("records", [RECORDS, {1: RECORDS[1]}, {}])
def test_records_come_back_from_a_file(records, tmp_path):
    state = with_records(xr.Dataset({"total": ("part", [1.0, 2.0])}), records)
    assert records_of(state) == records
    results.write(state, tmp_path / "state.nc")
    assert records_of(results.read(tmp_path / "state.nc")) == records


def test_shares_are_put_in_the_order_of_the_pictures():
    shares = [with_records(xr.Dataset(), {i: RECORDS[i]}) for i in RECORDS]
    assert list(contents_of(shares).items()) == [(i, RECORDS[i].content) for i in sorted(RECORDS)]


def test_changed_pictures_are_named_with_their_files_and_the_way_out(tmp_path):
    pictures = [Entry(f"{i}.png", lambda: None, "few", promise="new") for i in range(5)]
    pictures[4] = Entry("pair", lambda: None, "few", (tmp_path / "a.png", tmp_path / "label.png"))
    with pytest.raises(UserError) as error:
        refuse_changed(pictures, RECORDS, tmp_path / "kept.nc")
    message = str(error.value)
    assert f"{tmp_path / 'a.png'} with {tmp_path / 'label.png'}, 1.png, 0.png" in message
    assert "kept.nc" in message and "counted 3 of its pictures" in message and "--restart" in message
    refuse_changed(pictures, {}, tmp_path / "kept.nc")


def test_results_of_other_data_are_not_compared():
    results.refuse_other_data("scenes", ["a", "a"])
    with pytest.raises(UserError, match=r"scenes: the models did not see the same data.*--restart"):
        results.refuse_other_data("scenes", ["a", "b"])
