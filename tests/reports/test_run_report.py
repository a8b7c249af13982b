"""What an experiment shows in a notebook: tables, pictures and remarks of a run, and names that there are not."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.display import Markdown
from matplotlib.figure import Figure

from workbench.errors import ParameterError
from workbench.records.artefacts_file import read_artefacts
from workbench.records.provenance import write_artefacts
from workbench.reports.run_report import best_curves, cohort_table, model_table, picture, remarks, result_table, show


@pytest.fixture
def setup_of(fabricate: ModuleType, tmp_path: Path) -> Any:
    """A U-Net with results of 12 test cases."""
    cases = fabricate.make_cases(test=12, validation=6, train=6, external=0).assign(segmentation="m")
    run = fabricate.make_run(tmp_path, "e", "unet", "completed", seed=1, cases=cases, subsets=False)
    training = {
        "best_step": 8, "steps": 24, "score": "mean Dice", "notes": ["a note"],
        "budget": {"steps": 24, "samples": 48, "seconds": 3.4, "device": "cpu", "threads": 2},
    }  # fmt: skip
    return SimpleNamespace(
        run=run, training=training, notes=["a note", "another"], markers=("idh",), modalities=("t1",),
        cases_by_split={name: cases[cases["split"] == name] for name in ("train", "validation", "test", "external")},
        parameters=SimpleNamespace(method="unet", fold=0, resamples=100, size="demo"),
        cohort=SimpleNamespace(info=SimpleNamespace(name="demo", phantom=True), truth=None),
    )  # fmt: skip


def test_names_that_there_are_not_are_refused_with_those_there_are(setup_of: Any) -> None:
    with pytest.raises(ParameterError, match="figure 'losses' is unknown; there are training, segmentation"):
        show(setup_of, "losses")
    with pytest.raises(ParameterError, match="there is no table 'dice'; there are segmentation, markers"):
        result_table(setup_of, "dice")


def test_a_method_that_predicts_no_markers_says_so(setup_of: Any) -> None:
    setup_of.run.path("markers.parquet").unlink()
    sentence = result_table(setup_of, "markers")
    assert isinstance(sentence, Markdown)
    assert "predicts no markers: there is no table of markers" in sentence.data


def test_results_are_texts_with_counts(setup_of: Any) -> None:
    table = result_table(setup_of, "segmentation")
    dice = setup_of.run.metrics().query("split == 'test' and region == 'ET' and metric == 'dice'")
    row = table.loc[("test", "ET")]
    there = dice[dice["n_truth"] > 0]
    assert 0 < len(there) < 12
    assert row["Dice"].startswith(f"{there['value'].mean():.2f} (")
    assert row["Dice"].endswith(", rough)"), "of fewer than 15 subjects"
    assert (row["n"], row["with the region"]) == (12, len(there))
    assert row["found"].startswith(f"{(there['value'] > 0).sum()} of {len(there)}")
    assert row["falsely found"].startswith(f"{(dice.loc[dice['n_truth'] == 0, 'value'] == 0).sum()} of {12 - len(there)}")
    distance = setup_of.run.metrics().query("split == 'test' and region == 'ET' and metric == 'hd95' and n_truth > 0")["value"]
    assert row["HD95 (mm), median"].startswith(f"{distance.median():.2f} (")
    quartiles = "quartiles (a miss counts as the diagonal of the case's own grid)"
    assert row[quartiles] == f"{distance.quantile(0.25):.2f} to {distance.quantile(0.75):.2f}"
    assert table.columns.name == "phantom cohort demo"


def test_who_trains_and_who_is_tested(setup_of: Any) -> None:
    table = cohort_table(setup_of)
    rows = setup_of.cases_by_split["test"]
    assert table["cases"].to_dict() == {"train": 6, "validation": 6, "test": 12, "external": 0}
    assert table.loc["test", "idh"] == f"0.0: {(rows['idh'] == 0).sum()}, 1.0: {(rows['idh'] == 1).sum()}"
    assert table.loc["external", "idh"] == "unknown"
    assert table.loc["test", "masks"] == 12


def test_parameters_add_up(setup_of: Any) -> None:
    setup_of.network = SimpleNamespace(
        parameters_by_component=lambda: {"encoder": 1200, "head": 34}, parameter_count=lambda: 1234
    )
    assert model_table(setup_of)["parameters"].to_dict() == {"encoder": "1,200", "head": "34", "in all": "1,234"}


def test_remarks_name_the_budget_and_say_that_a_phantom_is_one(setup_of: Any) -> None:
    lines = remarks(setup_of).data.splitlines()
    assert lines[0] == "- Best checkpoint: step 8 of 24 (mean Dice)."
    assert "24 optimiser steps, 48 samples, 3 s on cpu with 2 threads" in lines[1]
    assert lines[2:4] == ["- a note", "- another"], "each once"
    assert "never clinical evidence" in lines[4]
    assert "Demo size" in lines[5]
    setup_of.cohort.info.phantom, setup_of.parameters.size = False, "paper"
    assert len(remarks(setup_of).data.splitlines()) == 4


def test_best_curves_are_the_phantoms_own_aligned_with_the_known_cases() -> None:
    rows = pd.DataFrame({
        "case": ["b", "a", "c", "a"], "split": ["test", "test", "test", "validation"], "marker": "idh", "class": "mutant",
        "truth": [1.0, 0.0, np.nan, 0.0],
    })  # fmt: skip
    grades = rows.assign(marker="grade", **{"class": "4"})
    truth = pd.DataFrame({"case": list("abc"), "posterior_idh": [0.1, 0.9, 0.5], "posterior_grade4": [0.2, 0.3, 0.4]})
    cohort: Any = SimpleNamespace(truth=truth)
    found = best_curves(cohort, pd.concat([rows, grades, rows.assign(marker="mgmt")]))
    assert {key: values.tolist() for key, values in found.items()} == {("idh", "mutant"): [0.9, 0.1], ("grade", "4"): [0.3, 0.2]}
    assert best_curves(SimpleNamespace(truth=None), rows) == {}  # type: ignore[arg-type]


def test_a_picture_is_kept_as_png_and_pdf_and_is_registered(setup_of: Any) -> None:
    write_artefacts(setup_of.run)
    shown = picture(setup_of.run, "training", Figure(figsize=(1, 1)))
    assert shown.data[:4] == b"\x89PNG"
    folder = setup_of.run.folder / "figures"
    assert sorted(path.name for path in folder.iterdir()) == ["training.pdf", "training.png"]
    assert b"CreationDate" not in (folder / "training.pdf").read_bytes(), "two runs of one seed leave the same bytes"
    kept = read_artefacts(setup_of.run.folder)["files"]
    assert {f"figures/training.{suffix}" for suffix in ("png", "pdf")} <= set(kept)


def test_where_there_is_nothing_to_show_it_says_so(setup_of: Any) -> None:
    assert "does not say what it makes of its sequences" in show(setup_of, "features").data
    assert "does not weigh its sequences" in show(setup_of, "modality_weights").data
    assert show(setup_of, "attribution").data == "*Nothing to show for attribution in the test split.*"
