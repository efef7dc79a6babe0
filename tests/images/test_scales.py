"""Scales as people write them."""

import pytest

from mimo_core.images.scales import check_scales, format_scales, parse_scales


@pytest.mark.parametrize(
    ("text", "factors"),
    [("1", (1,)), ("1/2", (2,)), ("1/4,1/2", (4, 2)), ("1/4, 1/2 ,1", (4, 2, 1)), ("1/16,1/3,1", (16, 3, 1))],
)
def test_scales_are_read_from_coarse_to_fine(text: str, factors: tuple[int, ...]) -> None:
    assert parse_scales(text) == factors
    assert parse_scales(format_scales(factors)) == factors
    assert check_scales(text) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected auto"),
        ("2", "expected auto"),
        ("1/0", "expected auto"),
        ("1/2;1", "expected auto"),
        ("1,1/2", "from coarse to fine"),
        ("1/2,1/2", "each comes once"),
        ("1/32", "coarsest scale is 1/16"),
        ("auto,1", "expected auto"),
    ],
)
def test_what_is_no_scales_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_scales(text)
