"""An accelerator is never waited for while pictures are counted; a stand-in counts on the CPU what would wait."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import clearclip
from clearclip.datasets import load
from clearclip.evaluation import measurement
from clearclip.models.arrival import Arriving, arriving

RECIPE_NAMES = ["clip", "maskclip", "sclip", "clearclip", "naclip", "sc_clip"]
WAITS = {  # what needs a value on the CPU, or a size that depends on one
    "aten._local_scalar_dense",
    "aten.nonzero",
    "aten.masked_select",
    "aten.bincount",
    "aten._unique2",
    "aten.unique_dim",
    "aten.is_nonzero",
    "aten.equal",
    "aten.repeat_interleave",
}


class Waits(TorchDispatchMode):
    """Counts operations that would wait, copies that are not asked to go on beside other work among them."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func.overloadpacket)
        mask = name in ("aten.index", "aten.index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
            if index is not None
        )
        if name in WAITS or mask:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def evaluation():
    """An evaluation of six scenes as it runs on an accelerator: nothing in threads, checks put off."""
    from clearclip.evaluation.run import evaluate

    made = {}

    class Kept(measurement.Evaluation):
        def __init__(self, *given):
            super().__init__(*given)
            made["it"] = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clearclip.evaluation.run.Evaluation", Kept)
        evaluate(
            clearclip.load("clip_tiny", device="cpu"), load("scenes", count=6), RECIPE_NAMES,
            prompts="photo", batch_size=2, progress=False,
        )  # fmt: skip
    it = made["it"]
    it._work, it._beside = (lambda count, recipes: [count(recipe) for recipe in recipes]), True
    return it


@torch.inference_mode()
def test_the_loop_never_waits_but_for_whether_all_is_finite(evaluation):
    pictures = [evaluation.read(i) for i in range(6)]
    total = evaluation.start()
    with Waits() as waits:
        for i in range(0, 6, 2):
            total = evaluation.update(total, pictures[i : i + 2])
    assert not waits.seen
    assert evaluation._matrices(total).sum() == len(RECIPE_NAMES) * 6 * 64 * 64


def test_the_stand_in_sees_what_would_wait():
    x = torch.arange(3.0)
    with Waits() as waits:
        float(x[0]), x[x > 1], x.nonzero(), bool(x[0] > 0), torch.bincount(x.long())
    assert waits.seen["aten._local_scalar_dense"] == 2 and waits.seen["aten.index"] == 1
    assert waits.seen["aten.nonzero"] == 1 and waits.seen["aten.bincount"] == 1


def test_what_is_put_off_is_refused_before_anything_is_kept(evaluation, monkeypatch):
    """A check that fails later stops the run all the same, and its batch is in no state."""
    pictures = [evaluation.read(i) for i in range(2)]

    def logits(pictures, checks):
        checks.append(lambda: (_ for _ in ()).throw(clearclip.UserError("not finite")))
        return iter([])

    total = evaluation.update(evaluation.start(), pictures)
    monkeypatch.setattr(evaluation, "_logits", logits)
    monkeypatch.setattr(evaluation, "_count", lambda *_: None)
    broken = evaluation.update(total, [])
    for look in (broken.whole, lambda: evaluation.state(broken), lambda: evaluation.update(broken, [])):
        with pytest.raises(clearclip.UserError, match="not finite"):
            look()


def test_values_arrive():
    values = arriving(torch.arange(3))
    assert isinstance(values, Arriving) and values.wait().tolist() == [0, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_never_waited_for():
    from benchmarks.throughput import waits

    model = clearclip.load("clip_tiny", device="cuda")
    dataset = load("scenes", count=32)
    clearclip.evaluate(model, dataset, RECIPE_NAMES, prompts="photo", progress=False)  # what is made once may wait
    with waits() as seen:
        clearclip.evaluate(model, dataset, RECIPE_NAMES, prompts="photo", progress=False)
    assert len(seen) <= 4, [str(warning.message) for warning in seen]  # texts and results, not one for each batch
