"""What a reference says of its rows."""

import pytest

from core.reference import together


@pytest.mark.parametrize(
    ("groups", "size"),
    [(["a", "b", "c"], 1.0), (["a"] * 4, 4.0), (["a", "a", "a", "b"], 2.5), ([], 1.0)],
)
def test_rows_taken_together_are_those_of_a_rows_own_group_on_average(groups: list[str], size: float) -> None:
    assert together(groups) == size
