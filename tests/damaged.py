"""Small Datasets of every kind, and what can be wrong with a file that is said to hold one."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from streams import Drawn
from streams import measure as measure_stream
from sweeps import sweep

import clearclip
from analysis import attribute, collect, worth
from analysis.attribution.peaks import measure as measure_peaks
from analysis.probes.attention import token_attention
from analysis.probes.feature_maps import feature_maps
from analysis.probes.images import pictures
from analysis.probes.label_maps import label_maps
from analysis.probes.pca import pca_maps
from analysis.probes.similarity import similarity_maps
from analysis.prototypes.run import measure
from analysis.sweeps import recipe_lists
from analysis.textspan.run import measure as texts_of_heads
from clearclip.datasets import load
from clearclip.runs.formats import FORMATS

DOORS = {
    "statistics": "analysis.entropy",
    "stream statistics": "analysis.entropy",
    "label maps": "analysis.maps",
    "sweep": "analysis.ablation",
    "prototypes": "analysis.prototypes",
    "head prototypes": "analysis.prototypes",
    "texts of heads": "analysis.textspan",
    "attention": "analysis.attention",
    "feature maps": "analysis.featuremaps",
    "PCA maps": "analysis.pca",
    "similarity": "analysis.similarity",
    "attribution": "analysis.attribution",
    "components": "analysis.components",
    "peaks": "analysis.peaks",
}


def results_of_all_kinds() -> dict[str, xr.Dataset]:
    """One small Dataset of every kind of `FORMATS`, from the shipped model at random."""
    model, photos, scenes = (
        clearclip.load("clip_tiny", random=True),
        pictures(["photographs"], 2),
        load("scenes", count=2),
    )
    small = {"x": slice(None, None, 56), "y": slice(None, None, 56)}  # of the photo
    return {
        "statistics": collect(model, photos, layers=[5, 6], progress=False),
        "stream statistics": streamed(),
        "label maps": label_maps(model, scenes, list(scenes.classes), ["clip", "clearclip"], prompts="photo"),
        "sweep": sweep(recipe_lists.ablation(), ("clip_tiny",), ("scenes",), norms=True),
        "prototypes": measure(model, scenes, layers=[5, 6], short_side=32, progress=False),
        "head prototypes": measure(model, scenes, layers=[5, 6], heads=True, short_side=32, progress=False),
        "texts of heads": texts_of_heads(
            model, photos, ["a ball", "sand", "sky"], layers=[5, 6], count=2, progress=False
        ),
        "attention": token_attention(model, photos, [6], [1, 2], ("qk", "qq")).isel(small),
        "feature maps": feature_maps(model, photos, [6]).isel(channel=slice(16)),
        "PCA maps": pca_maps(model, photos, [5, 6]).isel(small),
        "similarity": similarity_maps(model, photos, (0.5, 0.5), [5, 6]).isel(small),
        "attribution": attribute(model, photos, "cat, sky", recipe="clearclip", prompts="photo").isel(small),
        "components": worth(model, scenes, "clearclip", prompts="photo", progress=False).isel({"class": slice(3)}),
        "peaks": measure_peaks(model, photos).isel(small),
    }


def streamed() -> xr.Dataset:
    """Statistics of a stream, whose parts are not kept."""
    with tempfile.TemporaryDirectory() as folder:
        return measure_stream(Drawn(), folder, layers=[5, 6])


# what can be wrong with a Dataset -----------------------------------------------------------------------------------


def altered(dataset: xr.Dataset, kind: str) -> Iterator[tuple[str, Callable[[], xr.Dataset]]]:
    """What is changed → the changed Dataset, of one of `FORMATS`."""
    known = FORMATS[kind]
    for dim in known.needed:
        yield f"no {dim}", lambda dim=dim: dataset.isel({dim: 0})
        yield f"empty {dim}", lambda dim=dim: dataset.isel({dim: slice(0)})
        yield f"renamed {dim}", lambda dim=dim: dataset.rename({dim: "other"})
    for dim in filter(dataset.coords.__contains__, known.labels):
        labels = dataset[dim]
        yield f"unlabelled {dim}", lambda dim=dim: dataset.drop_vars(dim)
        yield f"double {dim}", lambda dim=dim: xr.concat([dataset, dataset], dim, data_vars="minimal")
        if known.labels[dim].ascending and labels.size > 1:
            yield f"reversed {dim}", lambda dim=dim: dataset.isel({dim: slice(None, None, -1)})
        strange = np.full(labels.size, np.nan) if labels.dtype.kind != "i" else labels.values.astype(str)
        yield f"strange {dim}", lambda dim=dim, strange=strange: dataset.assign_coords({dim: strange})
        names = [f"{i}th" for i in range(labels.size)] if labels.dtype.kind != "i" else labels.values - 1000
        yield f"unknown {dim}", lambda dim=dim, names=names: dataset.assign_coords({dim: names})
    for name in filter(dataset.variables.__contains__, {**known.variables, **known.about}):
        variable, new = dataset[name], dataset.assign_coords if name in dataset.coords else dataset.assign
        numeric = variable.dtype.kind in "fiu"
        yield f"no {name}", lambda name=name: dataset.drop_vars(name)
        strange = variable.astype(str) if variable.dtype.kind != "U" else xr.full_like(variable, 1.5, float)
        yield f"strange {name}", lambda name=name, new=new, strange=strange: new({name: strange})
        if name in known.variables:
            yield (
                f"transposed {name}",
                lambda name=name, of=variable: dataset.assign({name: of.transpose(*of.dims[::-1])}),
            )
            yield f"bare {name}", lambda name=name, of=variable: dataset.assign({name: of.drop_attrs()})
            yield f"coordinate {name}", lambda name=name: dataset.set_coords(name)
        allowed = {**known.variables, **known.about}[name].values
        outside = (allowed.low - 9, allowed.high + 9) if numeric and variable.dtype.kind != "u" else ()
        for value in (np.inf, *filter(np.isfinite, outside)):
            if numeric:
                changed = xr.full_like(variable, value, float if np.isinf(value) else variable.dtype)
                yield f"{value} in {name}", lambda name=name, new=new, changed=changed: new({name: changed})
    for name in {**dataset.attrs, "options": "{}", "format": ""}:
        yield (
            f"no attribute {name}",
            lambda name=name: dataset.drop_attrs(deep=False).assign_attrs(
                {other: value for other, value in dataset.attrs.items() if other != name}
            ),
        )
        for value in (-1.5, [1, 2], '{"a": ', "[" * 3000):
            yield (
                f"attribute {name} {str(value)[:6]}",
                lambda name=name, value=value: dataset.assign_attrs({name: value}),
            )
    yield "newer", lambda: dataset.assign_attrs(format=f"clearclip {kind} 2")
    yield "other kind", lambda: dataset.assign_attrs(format="clearclip other 1")
    yield "more", lambda: dataset.assign(mine=("thing", [1.0]))
    yield "more text", lambda: dataset.assign(mine=("model", ["a"] * dataset.sizes["model"]))
    yield "nothing", lambda: xr.Dataset()


# what can be wrong with a file --------------------------------------------------------------------------------------


def spoiled(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is wrong → spoil the file, which is a whole one before each."""
    content = path.read_bytes()
    for i, length in enumerate(
        (0, 1, 7, 8, 100, 1000, *(len(content) * part // 7 for part in range(1, 7)), len(content) - 1)
    ):
        yield f"truncated {i}", lambda length=length: path.write_bytes(content[:length])
    for place in np.random.default_rng(0).integers(0, len(content), 20):
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        yield f"flipped {place}", lambda flipped=flipped: path.write_bytes(flipped)
    yield "text", lambda: path.write_text("model,layer,entropy\nclip_tiny,1,0.5\n")
    yield "zeros", lambda: path.write_bytes(bytes(5000))
    yield "NetCDF 3", lambda: xr.Dataset({"entropy": ("layer", [1.0])}).to_netcdf(path, engine="scipy")
    yield "a folder", lambda: (path.unlink(), path.mkdir(), (path / ".zgroup").write_text("{}"))
    for name, write in HDF5.items():

        def rewrite(write=write) -> None:
            path.unlink()
            with h5py.File(path, "w") as file:
                write(file)

        yield f"HDF5 with {name}", rewrite


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "entropy", (3,))
    file.create_virtual_dataset("entropy", layout)


def _without_scale(file: h5py.File) -> None:
    file["entropy"] = np.ones(3)
    file["entropy"].attrs["DIMENSION_LIST"] = np.zeros(3)


HDF5: dict[str, Callable[[h5py.File], object]] = {
    "nothing": lambda file: None,
    "groups": lambda file: file.create_group("model/layer"),
    "external links": lambda file: file.__setitem__("entropy", h5py.ExternalLink("/etc/passwd", "/entropy")),
    "soft links": lambda file: file.__setitem__("entropy", h5py.SoftLink("/nowhere")),
    "values elsewhere": lambda file: file.create_dataset("entropy", (3,), "f4", external=[("/etc/passwd", 0, 12)]),
    "virtual values": _virtual,
    "compounds": lambda file: file.create_dataset("entropy", (3,), [("a", "f4"), ("b", "i4")]),
    "enumerations": lambda file: file.create_dataset("entropy", (3,), h5py.enum_dtype({"a": 0, "b": 1})),
    "complex numbers": lambda file: file.create_dataset("entropy", (3,), "c8"),
    "references": lambda file: file.create_dataset("entropy", (3,), h5py.ref_dtype),
    "lists": lambda file: file.create_dataset("entropy", (3,), h5py.vlen_dtype("f4")),
    "no shape": lambda file: file.create_dataset("entropy", data=h5py.Empty("f4")),
    "10¹² numbers": lambda file: file.create_dataset("entropy", (10**6, 10**6), "f4", chunks=(1, 100)),
    "large chunks": lambda file: [
        file.create_dataset(f"entropy{i}", (1,), "f4", chunks=(10**9,), maxshape=(None,)) for i in range(100)
    ],
    "wrong scales": _without_scale,
}
