"""The evaluation under every subset as text: means, order, and what training never showed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from matplotlib.text import Text

from workbench.files import write_parquet
from workbench.records.run_folder import RunFolder
from workbench.reports.subset_tables import added_table, number_of_sequences_figure, subset_figure, subset_table

NAMES = ("t1", "t1c", "t2", "flair")


@pytest.fixture(scope="module")
def run(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Twelve test cases, of which the last has no T2; Dice of two regions, and IDH."""
    cases = fabricate.make_cases(test=12, validation=0, train=0, external=0)
    made = fabricate.make_run(tmp_path_factory.mktemp("subsets"), "e", "unet", "completed", seed=1, cases=cases)
    metrics, markers = made.subset_metrics(), made.subset_markers()
    few = (metrics["metric"] == "dice") & metrics["region"].isin(["WT", "ET"])
    write_parquet(made.path("subset_metrics.parquet"), metrics[few])
    write_parquet(made.path("subset_markers.parquet"), markers[markers["marker"] == "idh"])
    return made


def setup_of(run: RunFolder, subsets: str = "all") -> Any:
    """Its two training cases showed all sequences, and all but FLAIR; none was ever dropped."""
    training = pd.DataFrame({name: ["x", "x" if name != "flair" else None] for name in NAMES})
    return SimpleNamespace(
        run=run, modalities=NAMES, learned_modalities=NAMES, cases_by_split={"train": training},
        cohort=SimpleNamespace(info=SimpleNamespace(name="demo", phantom=True)), network=SimpleNamespace(draws_subsets=False),
        parameters=SimpleNamespace(method="unet", fold=0, resamples=100, subsets=subsets, modality_dropout=0.0),
    )  # fmt: skip


def test_a_row_per_subset_with_a_dagger_where_training_never_showed_it(run: RunFolder) -> None:
    table = subset_table(setup_of(run))
    assert len(table) == 15
    assert {name for name in table.index if "†" not in name} == {"T1 + T1c + T2 + FLAIR", "T1 + T1c + T2"}
    assert table["n"].to_dict()["T2 †"] == 11
    assert table["n"].to_dict()["T1 †"] == 12
    metrics = run.subset_metrics()
    dice = metrics.query("present == 't1' and region == 'WT' and metric == 'dice'")["value"]
    assert table.loc["T1 †", "Dice WT"].startswith(f"{dice.mean():.2f} (")
    assert list(table.columns) == ["n", "Dice WT", "Dice ET", "AUC IDH mutation"]
    assert table.loc["T1 †", "AUC IDH mutation"] == "not estimable", "six cases of a class are too few"
    assert table.columns.name == "phantom cohort demo"
    assert subset_table(setup_of(run, "few")).columns.name == "phantom cohort demo, few cases"


def test_adding_a_sequence_is_told_per_region_and_in_all(run: RunFolder) -> None:
    table = added_table(setup_of(run))
    assert set(table.loc["Dice WT"].index) == {"any sequence", "T1", "T1c", "T2", "FLAIR"}
    assert table.loc[("Dice WT", "T1"), "pairs of subsets"] <= 7 * 12
    assert float(table.loc[("Dice WT", "FLAIR"), "mean change"].split(" ")[0]) > float(
        table.loc[("Dice WT", "T1"), "mean change"].split(" ")[0]
    ), "the fabricated scores suffer most without FLAIR"


def test_there_are_pictures_of_both(run: RunFolder) -> None:
    for figure in (subset_figure(setup_of(run)), number_of_sequences_figure(setup_of(run))):
        assert figure is not None
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert any("unet on phantom cohort demo, fold 0: test cases" in text for text in texts)


def test_where_no_subset_was_judged_there_is_nothing(run: RunFolder, tmp_path: Path) -> None:
    bare = setup_of(RunFolder.create(tmp_path / "e", dict(run.spec)))
    assert subset_table(bare).empty
    assert added_table(bare).empty
    assert subset_figure(bare) is None
    assert number_of_sequences_figure(bare) is None
