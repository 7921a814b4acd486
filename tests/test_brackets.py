"""What paints nothing, and is judged beside what does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from photogram.data.folder import Folder
from photogram.data.toy import write_toy
from photogram.errors import UserError
from photogram.images import read_photo
from photogram.metrics.brackets import agreement, write_brackets
from photogram.metrics.protocol import Protocol

SIZE = (32, 48)


def test_agreement_counts_equal_pixels_but_not_void():
    asked = torch.tensor([[0, 1], [2, 2]])
    known = torch.stack([asked, torch.tensor([[0, 1], [0, 2]]), torch.tensor([[1, 0], [2, 2]])])
    assert agreement(asked, known, None).tolist() == [4, 3, 2]
    assert agreement(asked, known, 2).tolist() == [2, 2, 0]


def test_nearest_layouts_and_random_photographs(tmp_path):
    data = write_toy(tmp_path / "data", size=SIZE, train=9, val=4, quiet=True)
    # One held-out layout is one of training's: its photograph is the nearest.
    held, kept = (sorted((data / split / "layouts").iterdir()) for split in ("val", "train"))
    held[2].write_bytes(kept[5].read_bytes())
    found = write_brackets(data, Protocol("p-v1", "", "val", SIZE), tmp_path / "out", quiet=True)
    names = [Folder(data, "val").name(n) for n in range(4)]
    for folder in (found.photographs, found.retrieval):
        assert sorted(p.stem for p in folder.iterdir()) == names
    photo = next((data / "train" / "photos").glob(f"{kept[5].stem}.*"))
    assert np.array_equal(read_photo(found.retrieval / held[2].name), read_photo(photo))
    photos = {read_photo(p).tobytes() for p in (data / "train" / "photos").iterdir()}
    drawn = [read_photo(p).tobytes() for p in found.photographs.iterdir()]
    assert set(drawn) <= photos and len(set(drawn)) == 4


def test_too_few_photographs(tmp_path):
    data = write_toy(tmp_path / "data", size=SIZE, train=2, val=4, quiet=True)
    with pytest.raises(UserError, match="train has 2 photographs, but 4 layouts are judged"):
        write_brackets(data, Protocol("p-v1", "", "val", SIZE), tmp_path / "out", quiet=True)
