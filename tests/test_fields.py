"""What fields of recipes can be: bounds themselves, words, and numbers that are none."""

import math
from dataclasses import dataclass
from typing import Literal

import pytest

from photogram.errors import UserError
from photogram.recipes.fields import check_below_one, check_least, check_positive, check_words

Word = Literal["one", "two"]


@dataclass(frozen=True)
class Fields:
    a_word: str = "two"
    count: int = 1
    share: float = 0.0
    rate: float = 5e-324


def check(fields: Fields) -> None:
    check_words(fields, a_word=Word)
    check_least(fields, 1, "count")
    check_least(fields, 0, "share", "rate")
    check_below_one(fields, "share")
    check_positive(fields, "rate")


def test_bounds_belong_to_what_can_be_but_for_one():
    check(Fields())
    check(Fields("one", 10**9, math.nextafter(1, 0), 1e308))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (Fields(a_word="three"), "--a-word three: must be one of one, two"),
        (Fields(count=0), "--count 0: must be 1 or more"),
        (Fields(share=-0.5), "--share -0.5: must be 0 or more, and finite"),
        (Fields(share=math.nan), "--share nan: must be 0 or more, and finite"),
        (Fields(share=1.0), "--share 1.0: must be 0 or more, and below 1"),
        (Fields(rate=math.inf), "--rate inf: must be 0 or more, and finite"),
        (Fields(rate=0.0), "--rate 0.0: must be above 0 and finite"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(fields: Fields, message: str):
    with pytest.raises(UserError) as error:
        check(fields)
    assert str(error.value) == message
