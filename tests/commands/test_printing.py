"""What all commands share: units that suit a number, and NAME=VALUE."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.commands.printing import about, as_pairs, print_value, say, size_text
from workbench.errors import ParameterError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (40, "40 s"), (119.2, "119 s"), (125, "2 min"), (3600, "60 min"), (7190, "2.0 h"), (20_000, "5.6 h"),
     (172_700, "2 days"), (1e6, "12 days")],
)  # fmt: skip
def test_times_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert about(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3_400_000, "3.4 MB"), (2_500_000_000, "2.5 GB"), (4e12, "4.0 TB")],
)  # fmt: skip
def test_sizes_have_the_unit_that_suits_them(count: int, text: str) -> None:
    assert size_text(count) == text


def test_pairs_are_split_at_their_first_sign() -> None:
    assert as_pairs(["a=1", " b = x=y "], "-p") == {"a": "1", "b": "x=y"}
    for wrong, said in (
        (["a"], "-p a: expected NAME=VALUE"),
        (["=1"], "expected NAME=VALUE"),
        (["a=1", "a =2"], "-p a is given twice"),
    ):
        with pytest.raises(ParameterError, match=said):
            as_pairs(wrong, "-p")


def test_a_result_is_printed_as_it_is_and_everything_else_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_value("zwölf")
    print_value({"ö": Path("runs")})
    say("by the way")
    found = capsys.readouterr()
    assert found.out == 'zwölf\n{\n "ö": "runs"\n}\n'
    assert found.err == "by the way\n"
