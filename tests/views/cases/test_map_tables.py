"""Tables of explanation maps: shares beside chance, weights of the sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.records.run_folder import ATTRIBUTION_FILE
from workbench.views.cases.map_tables import attribution_table, read_map_table, weight_table


def test_attribution_beside_chance(attribution: pd.DataFrame) -> None:
    table = attribution_table(attribution)
    assert list(table.columns) == ["n", "ET", "ED", "brain outside tumour"]
    assert table.loc["Grad-CAM 1p/19q"].tolist() == [2, "25.0% (4.0%)", "30.0% (6.0%)", "45.0% (90.0%)"]
    empty = attribution["map"] == "gate"
    table = attribution_table(attribution.assign(share=attribution["share"].mask(empty)))
    assert table.loc["Tumour gate"].tolist() == [0, "–", "–", "–"]
    assert attribution_table(attribution.assign(share=np.nan)).empty
    assert attribution_table(pd.DataFrame()).empty


def test_each_case_counts_once_in_the_weights(weights: pd.DataFrame) -> None:
    table = weight_table(weights)
    assert table.loc["T1c", "ET"] == pytest.approx(0.6)
    assert table["brain outside tumour"].tolist() == [0.25, 0.75]
    np.testing.assert_allclose(table.sum(), 1)


def test_an_older_file_counts_as_none(tmp_path: Path, attribution: pd.DataFrame) -> None:
    path = tmp_path / ATTRIBUTION_FILE
    assert read_map_table(path).empty
    path.parent.mkdir()
    attribution.drop(columns="chance").to_csv(path, index=False)
    assert read_map_table(path).empty
    attribution.to_csv(path, index=False)
    assert len(read_map_table(path)) == len(attribution)
