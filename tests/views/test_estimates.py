"""Numbers with their intervals, of many subjects, of few and of too few."""

from __future__ import annotations

import subprocess
import sys

from workbench.evaluation.intervals import Interval
from workbench.views.estimates import ROUGH_NOTE, estimate_text, few_subjects, share_text


def test_a_number_of_few_subjects_is_marked_and_of_fewer_has_no_interval() -> None:
    assert estimate_text(0.8749, 0.84, 0.9, subjects=15) == "0.87 (0.84 to 0.90)"
    assert estimate_text(0.8749, 0.84, 0.9, subjects=14) == "0.87 (0.84 to 0.90, rough)"
    assert estimate_text(0.8749, 0.84, 0.9, subjects=6, digits=1) == "0.9 (0.8 to 0.9, rough)"
    assert estimate_text(0.8749, 0.84, 0.9, subjects=5) == "0.87 (no interval)"
    assert estimate_text(0.8749, float("nan"), float("nan"), subjects=60) == "0.87 (no interval)"
    assert estimate_text(0.8749) == estimate_text(0.8749, None, 0.9) == "0.87"
    assert estimate_text(3, 1, 9, show=lambda v: f"{v} mm", subjects=20) == "3 mm (1 mm to 9 mm)"
    assert estimate_text(float("nan"), subjects=20) == "not estimable"
    assert "fewer than 6" in ROUGH_NOTE
    assert "fewer than 15" in ROUGH_NOTE


def test_the_form_agrees_with_the_intervals_own() -> None:
    for subjects, marked in ((5, "no interval"), (8, "rough"), (30, "0.500 to 0.700")):
        interval = Interval(0.6, 0.5, 0.7, subjects, subjects)
        assert marked in str(interval)
        assert marked in estimate_text(interval.value, interval.low, interval.high, 3, subjects=subjects)


def test_few_subjects_are_said() -> None:
    found = [few_subjects(count) for count in (1, 5, 6, 14, 15)]
    assert found[:2] == ["no interval: 1 subject, 6 are needed", "no interval: 5 subjects, 6 are needed"]
    assert found[2:] == ["rough interval: 6 subjects", "rough interval: 14 subjects", ""]


def test_a_share_is_what_it_counts() -> None:
    assert (share_text(0.8, 5), share_text(0.0, 3), share_text(float("nan"), 0)) == ("4 of 5", "0 of 3", "–")


def test_formatting_a_number_loads_no_library() -> None:
    code = "import sys, workbench.views.estimates\nprint(sorted({'numpy', 'pandas', 'holoviews', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
