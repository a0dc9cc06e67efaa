"""Whole feature maps and their strongest channels."""

from analysis import plots
from analysis.probes.feature_maps import feature_maps, peaks
from analysis.probes.images import pictures


def test_peaks_are_the_largest_entries(dino):
    maps = feature_maps(dino, pictures(limit=2), (3,), 48)
    maps.feature_map[0, 1, 0, 2, 4, 200] = -77.0
    found = peaks(maps.feature_map)
    first = found[(found.image == maps.image.values[1]) & (found.feature == "X_sum") & (found["rank"] == 1)].iloc[0]
    assert (first.channel, first.token, first.value) == (200, 4, -77.0)
    figure = plots.feature_maps(maps)
    assert len(figure.axes) == 6
    assert "200" in [text.get_text() for text in figure.axes[5].texts]
