"""Features of held-out cases: which rows, resumed, and skipped with a word where there are none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from workbench.cohort.table import Cohort
from workbench.contracts import Prediction
from workbench.errors import RunError
from workbench.models.method import MethodModule
from workbench.models.options_base import MethodOptions
from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import prepare_cohort
from workbench.records.run_folder import FEATURES_FILE
from workbench.steps.features import CASE_COLUMNS, shown_sets, write_features

MODALITIES = ("t1", "t1c", "t2", "flair")


class Plain(MethodModule):
    """Has no features."""

    name = "plain"

    def __init__(self) -> None:
        super().__init__(modalities=MODALITIES, classes=4, options=MethodOptions())
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_arranged(self, images: Tensor, present: Tensor, *, tasks: tuple[str, ...], maps: bool) -> Prediction:
        return Prediction()


class Featured(Plain):
    """Its features: the mean of each sequence, which of them it was shown, and how often it was asked."""

    asked = 0

    def pooled_features(self, images: Tensor, present: Tensor) -> Tensor:
        assert not self.training
        self.asked += 1
        return torch.cat([images.mean((2, 3, 4)), present.float()], dim=1)


@pytest.fixture
def experiment(tiny_cohort: Cohort, tmp_path: Path) -> Any:
    def path(*parts: str) -> Path:
        found = tmp_path.joinpath(*parts)
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def over(names: Iterable[Any], *_: object) -> Iterable[Any]:
        return names

    cases = tiny_cohort.cases.head(5)
    splits = {"validation": cases.iloc[:2], "test": cases.iloc[2:4], "external": cases.iloc[4:]}
    setup = SimpleNamespace(
        parameters=SimpleNamespace(method="masm", sampling="whole", precision="no"), modalities=MODALITIES, cohort=tiny_cohort,
        network=Featured(), device="cpu", patch=(64, 64, 64), trained=True, pretraining=False, notes=[],
        prepared=prepare_cohort(tiny_cohort, PrepareSettings(spacing=4.0), progress=False),
        run=SimpleNamespace(folder=tmp_path, path=path), progress=SimpleNamespace(over=over), cases_by_split=splits,
        split={row["case"]: name for name, rows in splits.items() for _, row in rows.iterrows()},
        trained_model=lambda: setup.network,
    )  # fmt: skip
    return setup


def test_each_sequence_alone_and_all_together(experiment: Any) -> None:
    write_features(experiment)
    table = pd.read_parquet(experiment.run.folder / FEATURES_FILE)
    assert list(table.columns) == [*CASE_COLUMNS, *(f"f{index}" for index in range(8))]
    for case, rows in table.groupby("case"):
        acquired = [name for name in MODALITIES if name in experiment.cohort.present(str(case))]
        assert list(rows["present"]) == ["+".join(names) for names in shown_sets(acquired)]
        assert set(rows["split"]) == {experiment.split[case]}
        assert set(rows["subject"]) == {experiment.cohort.row(str(case))["subject"]}
        flags = rows[[f"f{index}" for index in range(4, 8)]].to_numpy()
        assert [["+".join(n for n, f in zip(MODALITIES, row, strict=True) if f)] for row in flags] == [
            [p] for p in rows["present"]
        ]
        means = rows[[f"f{index}" for index in range(4)]].to_numpy()
        assert np.array_equal(means != 0, flags.astype(bool)), "what is not shown is not read"
    assert set(table["case"]) == set(experiment.split)
    assert shown_sets(["dwi"]) == [("dwi",)], "one sequence is all there is"


def test_it_goes_on_where_it_stopped_and_does_nothing_twice(experiment: Any) -> None:
    stopped = KeyboardInterrupt("stopped")
    whole = experiment.progress.over

    def some(rows: Any, *_: object) -> Any:
        yield from list(rows)[:3]
        raise stopped

    experiment.progress.over = some
    with pytest.raises(KeyboardInterrupt):
        write_features(experiment)
    assert not (experiment.run.folder / FEATURES_FILE).exists()
    before, experiment.progress.over = experiment.network.asked, whole
    write_features(experiment)
    table = pd.read_parquet(experiment.run.folder / FEATURES_FILE)
    assert experiment.network.asked == len(table) > before > 0
    assert [path.name for path in experiment.run.folder.iterdir()] == [FEATURES_FILE]
    write_features(experiment)
    assert experiment.network.asked == len(table)


def test_a_method_without_features_gets_a_note(experiment: Any) -> None:
    experiment.network = Plain()
    write_features(experiment)
    assert experiment.notes == ["masm has no pooled features: there is no feature plot"]
    assert not list(experiment.run.folder.iterdir())


def test_lesion_and_data_set_come_along_where_the_cohort_says_them(experiment: Any) -> None:
    for name, rows in experiment.cases_by_split.items():
        experiment.cases_by_split[name] = rows.assign(lesion="ms", dataset="two")
    write_features(experiment)
    table = pd.read_parquet(experiment.run.folder / FEATURES_FILE)
    assert set(table["lesion"]) == {"ms"}
    assert set(table["dataset"]) == {"two"}


def test_an_untrained_run_is_refused(experiment: Any) -> None:
    experiment.trained = False
    with pytest.raises(RunError, match="not trained yet"):
        write_features(experiment)
