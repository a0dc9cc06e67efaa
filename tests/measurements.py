"""Every measurement of the house over the same few pictures, for the tester in test_measurements.py."""

import numpy as np
import xarray as xr
from PIL import Image

import clearclip
from analysis.probes.collection import collect
from analysis.probes.images import Picture
from analysis.prototypes.run import measure
from clearclip.datasets import Sample
from clearclip.datasets.entries import entries
from clearclip.evaluation.run import evaluate
from clearclip.pictures import BadImage
from clearclip.runs.exact_sum import ExactSum
from clearclip.runs.stream import Measurement, stream

COUNT = 9
BROKEN = (2, 7)


class Pictures:
    """Nine small pictures with labels, `broken` ones of which cannot be used; at `stop` comes Ctrl-C, once."""

    ignore_index, name, identity, classes = 255, "few", "a few pictures", ["apple", "ball", "grass"]

    def __init__(self, broken=BROKEN, order=range(COUNT), stop=None):
        self.broken, self.order, self.stop, self.read = broken, list(order), stop, []

    def __len__(self):
        return len(self.order)

    def __getitem__(self, position):
        index = self.order[position]
        if position == self.stop:
            self.stop = None
            raise KeyboardInterrupt
        self.read.append(position)
        if index in self.broken:
            raise BadImage(f"picture {index}.png: the file is broken")
        rng = np.random.default_rng(index)
        label = np.kron(rng.integers(0, 3, (5, 6)), np.ones((8, 8), int)).astype(np.uint8)  # (40, 48)
        image = Image.fromarray((60 * label[..., None] + rng.integers(0, 90, (40, 48, 3))).astype(np.uint8))
        label[0:3] = 255
        return Sample(image, label, f"picture {index}")


class Brightness(Measurement[Sample, ExactSum]):
    """The smallest measurement: the mean over pictures of their mean color."""

    title = "brightness"

    def __init__(self, pictures, batch_size):
        self.entries, self.indices, self.batch_size = entries(pictures), range(len(pictures)), batch_size

    def key(self):
        return {"batch size": self.batch_size}

    def read(self, index):
        return self.entries[index].read()

    def start(self):
        return ExactSum.zeros((3,))

    def update(self, total, pictures):
        for sample in pictures:
            total = total.plus(np.asarray(sample.image, float).mean((0, 1)))
        return total

    def standing(self, total):
        return f"sum {total.value().sum():.0f}"

    def state(self, total):
        return xr.Dataset({"total": (("part", "color"), total.parts)})

    def restore(self, state):
        return ExactSum(state.total.values)

    def finish(self, states, images):
        mean = ExactSum.of_parts((state.total.values for state in states), (3,)).value() / images
        return xr.Dataset({"mean": ("color", mean), "images": images})


def brightness(pictures, batch_size=2, **how):
    return stream(Brightness(pictures, batch_size), **how)


def statistics(pictures, batch_size=2, **how):
    def picture(position):
        return Picture(
            f"picture {pictures.order[position]}", lambda: pictures[position].image, "few", promise=pictures.identity
        )

    names = ["entropy", "frobenius_norm", "channel_mean", "token_norm"]
    listed = [picture(position) for position in range(len(pictures))]
    return collect(clearclip.load("dino_tiny"), listed, names, image_size=48, batch_size=batch_size, **how)


def evaluation(pictures, batch_size=2, **how):
    how = {"norms": True, "per_image": True, "prompts": "photo"} | how
    recipes = ["clip", "clearclip"]
    return evaluate(clearclip.load("clip_tiny"), pictures, recipes, batch_size=batch_size, **how)


def prototypes(pictures, batch_size=2, **how):
    return measure(clearclip.load("dino_tiny"), pictures, layers=[1, 6], short_side=32, batch_size=batch_size, **how)


MEASUREMENTS = {case.__name__: case for case in (brightness, statistics, evaluation, prototypes)}
