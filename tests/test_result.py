"""Results: their file, when two of them compare, and what they say together."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from photogram.errors import UserError
from photogram.metrics.bootstrap import Interval
from photogram.metrics.protocol import Protocol
from photogram.metrics.result import Measure, Repeats, Result, differences, disagreement, read_result
from photogram.metrics.table import tables

PROTOCOL = Protocol("p-v1", "for tests", "val", (32, 48), resamples=500)


def result(name: str = "a", values: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0), **changes: object) -> Result:
    made = Result(
        subject={"name": name, "sha256": "0", "images": len(values)},
        protocol=PROTOCOL,
        provenance={"scenes": "s", "reals": "r", "trunk": {"trunk": "t"}, "lpips": {}, "segmenter": ""},
        measures={"LPIPS[x]": Measure(2.5, Interval(1.0, 4.0), "lower", "far"), "IS": Measure(3.0, None, "higher", "")},
        per_class={"IoU": {"road": 0.5, "car": None}},
        per_image={"LPIPS[x]": list(values)},
        names=[str(n) for n in range(len(values))],
        warnings=["few"],
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_result_comes_back_from_its_file(tmp_path):
    result().write(tmp_path / "r.json")
    assert read_result(tmp_path / "r.json") == result()
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_what_seeds_gave_comes_back_too(tmp_path):
    known = result(repeats={"LPIPS[x]": Repeats.of([1.0, 2.0, 4.0]), "PSNR": Repeats.of([1.0, math.inf])})
    known.write(tmp_path / "r.json")
    found = read_result(tmp_path / "r.json").repeats
    assert found["LPIPS[x]"] == known.repeats["LPIPS[x]"]
    assert (found["LPIPS[x]"].mean, found["LPIPS[x]"].deviation) == pytest.approx((7 / 3, (7 / 3) ** 0.5))
    assert math.isnan(found["PSNR"].mean) and math.isnan(found["PSNR"].deviation)


def test_the_table_of_images_has_a_line_for_each(tmp_path):
    result(values=(1.0, math.inf, 0.1, 2.0), names=["a", "b,c", "d", "e"]).write_images(tmp_path / "i.csv")
    assert (tmp_path / "i.csv").read_text() == 'name,LPIPS[x]\na,1.0\n"b,c",inf\nd,0.1\ne,2.0\n'


def test_what_is_not_finite_is_null_in_the_file(tmp_path):
    odd = result(values=(1.0, math.inf, math.nan, 2.0))
    odd.write(tmp_path / "r.json")
    stored = json.loads((tmp_path / "r.json").read_text())  # strict JSON
    assert stored["per_image"]["LPIPS[x]"] == [1.0, None, None, 2.0]
    assert math.isnan(read_result(tmp_path / "r.json").per_image["LPIPS[x]"][1])


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_what_is_no_result(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=r"r\.json: .*(is no result|another version)"):
        read_result(tmp_path / "r.json")
    with pytest.raises(UserError, match="no such file"):
        read_result(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (result(protocol=replace(PROTOCOL, resize="tf1")), "the protocol's resize is 'aa' there and 'tf1' here"),
        (result(protocol=replace(PROTOCOL, count=9)), "the protocol's count is 0 there and 9 here"),
        (result(provenance={**result().provenance, "trunk": {"trunk": "u"}}), "their trunk differ"),
        (result(provenance={**result().provenance, "reals": "q"}), "their reals differ"),
        (result(provenance={**result().provenance, "segmenter": "9"}), "their segmenter differ"),
    ],
)
def test_results_of_other_protocols_do_not_compare(other, words):
    assert words in str(disagreement(result(), other))
    with pytest.raises(UserError, match="do not compare"):
        differences(result(), other)


def test_versions_and_words_do_not_matter():
    later = result(protocol=replace(PROTOCOL, about="said better"), provenance={**result().provenance, "versions": "9"})
    assert disagreement(result(), later) is None


def test_differences_are_paired():
    """Two systems that differ by the same everywhere differ for certain, however much images vary."""
    torch.manual_seed(0)
    first = (torch.randn(60) * 100).tolist()
    a, b = result("a", tuple(first)), result("b", tuple(v + 0.5 for v in first))
    found = differences(a, b)["LPIPS[x]"]
    assert found.value == pytest.approx(0.5, abs=1e-12) and found.decided
    assert found.interval == pytest.approx((0.5, 0.5), abs=1e-12)
    opposite = differences(b, a)["LPIPS[x]"]
    assert opposite.value == pytest.approx(-found.value)


@pytest.mark.parametrize(("better", "verdicts"), [("lower", ["worse", "better"]), ("higher", ["better", "worse"])])
def test_tables_say_which_way_a_difference_goes(better, verdicts):
    a, b = (result(name, tuple(float(n + add) for n in range(60))) for name, add in (("a", 0), ("b", 1)))
    for r in (a, b):
        r.measures["LPIPS[x]"] = replace(r.measures["LPIPS[x]"], better=better)
        r.per_class.clear()
    for pair, verdict in zip(((a, b), (b, a)), verdicts, strict=True):
        cells = [next(iter(column.cells)) for column in tables(pair)[-1].columns]
        assert str(cells[-1]) == verdict
    assert str(next(iter(tables((a, a))[-1].columns[-1].cells))) == "undecided"


def test_equal_scores_differ_by_nothing_and_decide_nothing():
    torch.manual_seed(1)
    scores = tuple(torch.rand(60, dtype=torch.float64).tolist())  # which float32 would round
    found = differences(result("a", scores), result("b", scores))["LPIPS[x]"]
    assert (found.value, *found.interval) == (0, 0, 0) and not found.decided


def test_a_difference_by_chance_is_undecided():
    torch.manual_seed(2)
    a, b = (result(name, tuple(torch.randn(60).tolist())) for name in "ab")
    found = differences(a, b)["LPIPS[x]"]
    assert not found.decided and found.interval.low < found.value < found.interval.high


def test_images_without_a_number_are_left_out():
    a, b = result("a", (1.0, 2.0, math.nan, 4.0)), result("b", (2.0, math.inf, 3.0, 5.0))
    assert differences(a, b)["LPIPS[x]"].value == pytest.approx(1.0)
    assert differences(a, result("b", (math.nan,) * 4)) == {}


WRONG = [None, 3, "text", [], {}]


@pytest.mark.parametrize(
    "field", ["subject", "provenance", "names", "measures", "per_image", "per_class", "warnings", "repeats", "protocol"]
)
def test_a_field_that_is_missing_or_wrong_ends_in_one_line(field, tmp_path):
    result("a").write(tmp_path / "whole.json")
    whole = json.loads((tmp_path / "whole.json").read_text())
    for n, value in enumerate([..., *WRONG]):
        empty = ("provenance", "per_class", "per_image", "repeats")  # of two collections, no image has scores
        if value == whole[field] or (field in empty and value == {}):
            continue
        if field == "warnings" and value == []:
            continue
        changed = {**whole, field: value}
        if value is ...:
            del changed[field]
        path = tmp_path / f"{n}.json"
        path.write_text(json.dumps(changed))
        with pytest.raises(UserError) as error:
            read_result(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
