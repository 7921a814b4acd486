"""Folders of images at the door of an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from photogram.errors import UserError
from photogram.images import write_image
from photogram.metrics.pictures import Pictures


def picture(path: Path, size: tuple[int, int] = (8, 12), value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(np.full((*size, 3), value, np.uint8), path)
    return path


def test_names_are_paths_without_suffix(tmp_path):
    for name in ("b.png", "a.jpg", "city/0001.webp", ".hidden.png", ".cache/x.png", "sheet.png"):
        picture(tmp_path / name)
    (tmp_path / "synthesis.json").write_text("{}")
    pictures = Pictures(tmp_path)
    assert pictures.names == ["a", "b", "city/0001"] and len(pictures) == 3
    assert pictures.read("a").shape == (8, 12, 3)


def test_the_hash_is_of_the_content_in_the_order_asked_for(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        picture(tmp_path / "one" / f"{name}.png", value=value)
        picture(tmp_path / "two" / f"x{name}.png", value=value)
    one, two = Pictures(tmp_path / "one"), Pictures(tmp_path / "two")
    assert one.digest(["a", "b"]) == two.digest(["xa", "xb"]) != one.digest(["b", "a"])
    picture(tmp_path / "two" / "xb.png", value=3)
    assert one.digest(["a", "b"]) != two.digest(["xa", "xb"])


@pytest.mark.parametrize(
    ("prepare", "use", "words"),
    [
        (lambda d: None, lambda d: Pictures(d / "none"), "no such folder"),
        (lambda d: (d / "a.txt").write_text("x"), Pictures, "holds no images (.jpg"),
        (lambda d: (picture(d / "a.png"), picture(d / "a.jpg")), Pictures, "has the same name as a.jpg"),
        (lambda d: picture(d / "a.png"), lambda d: Pictures(d).require(["a", "b", "c"]), "no image 'b' (2 of 3 are"),
        (
            lambda d: picture(d / "a.png"),
            lambda d: Pictures(d).read("a", (8, 8)),
            "is 8 x 12, but the protocol judges 8 x 8",
        ),
        (
            lambda d: (d / "a.png").write_bytes(b"no image"),
            lambda d: Pictures(d).read("a"),
            "is no image that can be read",
        ),
        (lambda d: (d / "a.png").write_bytes(b""), lambda d: Pictures(d).read("a", (8, 8)), "is empty"),
    ],
)
def test_bad_folders(tmp_path, prepare, use, words):
    prepare(tmp_path)
    with pytest.raises(UserError) as e:
        use(tmp_path)
    assert words in str(e.value) and "\n" not in str(e.value)


def test_a_file_that_goes_away(tmp_path):
    path = picture(tmp_path / "a.png")
    pictures = Pictures(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"a\.png: cannot be read"):
        pictures.digest(["a"])
