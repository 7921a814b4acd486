"""What only a GPU can show; skipped where there is none."""

from pathlib import Path

import pytest
import torch

import photogram
from photogram.data.toy import Toy
from photogram.recipes.crn import CRN
from photogram.training import Precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
RECIPE = CRN(widths=(16, 16, 16, 8), perceptual="squeezenet")


def run(out: Path, *steps: int, precision: Precision) -> tuple[bytes, bytes]:
    """Train in as many calls as there are steps; the log and the weights."""
    for until in steps:
        plan = photogram.Plan(steps=until, save_every=100, precision=precision, workers=0, quiet=True)
        photogram.train(RECIPE, Toy(size=(32, 48), count=8), out, plan)
    return (out / "log.jsonl").read_bytes(), (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_resumes_to_the_last_bit_on_the_gpu(tmp_path: Path, precision: Precision) -> None:
    whole = run(tmp_path / "whole", 8, precision=precision)
    assert run(tmp_path / "parts", 3, 8, precision=precision) == whole


def test_a_gpu_paints_what_a_cpu_paints(tmp_path: Path) -> None:
    run(tmp_path, 4, precision="fp32")
    generator = photogram.load(tmp_path)
    condition = Toy("val", size=(32, 48), count=1)[0, 0].condition
    on_cpu = generator.sample(condition, seed=0)
    on_gpu = generator.cuda().sample(condition, seed=0).cpu()
    assert (on_cpu - on_gpu).abs().max() * 127.5 < 2  # grey levels
