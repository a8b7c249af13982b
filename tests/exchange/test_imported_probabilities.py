"""Other people's probabilities: every row that cannot be used is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workbench.errors import InputError
from workbench.exchange.imported_probabilities import missing_rows, read_probabilities, with_truth


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("case,marker,probability\na,idh,1.2", "line 2: probability of idh is 1.2"),
        ("case,marker,probability\na,idh,nan", "line 2: probability of idh is nan"),
        ("case,marker,probability\na,idh,", "line 2: probability '' of idh is no number"),
        ("case,marker,probability\na,egfr,0.5", "marker 'egfr' is unknown"),
        ("case,marker,class,probability\na,idh,wild type,0.5", "give the score of 'mutant'"),
        ("case,marker,class,probability\na,grade,,0.5", "class '' of grade"),
        ("case,marker,probability\na,idh,0.5\na,idh,0.6", "class 'mutant' is given twice"),
        ("case,marker,class,probability\na,grade,2,0.5\na,grade,3,0.1\na,grade,4,0.1", "add up to 0.700"),
        ("case,marker,class,probability\na,grade,2,0.5\na,grade,4,0.5", "no row of class 3"),
        ("marker,probability\nidh,0.5", "has no column case"),
        ("case,marker\na,idh", "neither a column probability nor"),
        ("case,marker,probability,logit\na,idh,0.5,0", "both probability and logit"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "markers.csv"
    path.write_text(text)
    try:
        _, problems = read_probabilities(path)
        found = "\n".join(map(str, problems))
    except InputError as error:
        found = str(error)
    assert problem in found


def test_truth_is_that_of_the_class_and_what_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "markers.csv"
    path.write_text("Case, Marker, Class, Logit\na, IDH, , 0\nb, idh, Mutant, -2\na, grade, 4.0, 1\n")
    found, problems = read_probabilities(path)
    assert problems == []
    assert found["class"].tolist() == ["mutant", "mutant", "4"]
    assert found["probability"].tolist() == pytest.approx([0.5, 0.1192, 0.7311], abs=1e-4)
    cases = pd.DataFrame({"case": ["a", "b", "c"], "idh": [0, pd.NA, 1], "grade": [4, 3, pd.NA]})
    assert with_truth(found, cases)["truth"].tolist() == pytest.approx([0.0, float("nan"), 1.0], nan_ok=True)
    assert missing_rows(found, cases) == [("c", "idh"), ("b", "grade")]
