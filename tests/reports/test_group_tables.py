"""Runs on cohorts made of several: what was imported and merged is trained on, and judged per dataset and kind of lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from IPython.display import Markdown

from workbench.cohort.folds import make_folds
from workbench.cohort.merge import merge_cohorts
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort
from workbench.cohort.writing import relative_root
from workbench.experiments.experiment import Experiment
from workbench.files import write_parquet
from workbench.setup.parameters import ExperimentParameters

QUICK = {
    "size": "demo", "spacing": 6.0, "epochs": 1, "steps_per_epoch": 1, "resamples": 100, "width": 4, "levels": 3, "patch": 16,
    "sampling": "patch", "threads": 1, "batch_size": 1, "maps": 0, "subsets": "none",
}  # fmt: skip


def experiment(cohort: Cohort, folder: Path, **values: object) -> Experiment:
    parameters = {**QUICK, "cohort": str(cohort.folder), "runs": str(folder), **values}
    return Experiment(ExperimentParameters.build("unet", parameters), progress=False)


def test_groups_of_a_run_and_a_sentence_where_there_is_one(tiny_cohort: Cohort, tmp_path: Path) -> None:
    lesions = np.where(tiny_cohort.cases.index % 2, "ms", "glioma")
    info = tiny_cohort.info.model_copy(update={"image_root": relative_root(tiny_cohort.image_root, tmp_path / "named")})
    named = Cohort.create(tmp_path / "named", info, tiny_cohort.cases.assign(lesion=lesions))
    told = experiment(named, tmp_path / "runs").train().predict().evaluate()
    metrics = told.run.metrics()
    known = dict(zip(named.cases["case"], lesions, strict=True))
    assert dict(zip(metrics["case"], metrics["lesion"], strict=True)).items() <= known.items()
    assert metrics["dataset"].isna().all()
    table = told.result_table("groups")
    assert (
        set(table.index.get_level_values("group")) == set(metrics.loc[metrics["split"] == "test", "lesion"]) == {"ms", "glioma"}
    )
    rows = metrics[(metrics["lesion"] == "ms") & (metrics["split"] == "test") & (metrics["region"] == "WT")]
    dice = rows.loc[rows["metric"] == "dice", "value"]
    shown = table.loc[("lesion", "ms", "test", "WT")]
    assert shown["Dice"].startswith(f"{dice.mean():.2f}")
    assert shown["n"] == len(dice)
    assert {"dataset", "lesion"} <= set(told.run.markers().columns)

    told.run.path("artefacts.json").unlink()  # with its record another table would be refused
    write_parquet(told.run.path("metrics.parquet"), metrics.assign(lesion=None))
    sentence = told.result_table("groups")
    assert isinstance(sentence, Markdown)
    judged = metrics.loc[metrics["split"] == "test", "case"].nunique()
    assert f"only one group: the {judged} judged cases are of sites (seen in training)" in sentence.data
    assert "does not say their dataset or lesion" in sentence.data


@pytest.mark.slow  # about 25 s of processor time: six whole heads at 1 mm
@pytest.mark.real_data
def test_real_ms_glioma_and_stroke_as_one_cohort(real_data: Path, tmp_path: Path) -> None:
    """Three folders, three sets of sequences, three conventions: one class of lesion, six sequences, no case with all."""
    collections = {
        "ms": (("t1", "t1c", "t2", "flair"), "lesion"),
        "glioma": (("t1c", "flair"), "brats2015"),
        "stroke": (("dwi", "adc", "flair"), "lesion"),
    }
    for name, (sequences, labels) in collections.items():
        mask = "*/brainmask.nii.gz" if name == "glioma" else ""
        import_cohort(
            "generic", real_data / name, tmp_path / name, images={one: f"*/{one}.nii.gz" for one in sequences}, labels=labels,
            segmentation="*/seg.nii.gz", brain_mask=mask, lesion=name,
        )  # fmt: skip
    merged = merge_cohorts([tmp_path / name for name in collections], tmp_path / "all", labels="lesion")
    assert set(merged.modalities) == {"t1", "t1c", "t2", "flair", "dwi", "adc"}
    assert not merged.cases[list(merged.modalities)].notna().all(axis=1).any()
    assert merged.cases.groupby("dataset").size().to_dict() == {"ms": 2, "glioma": 3, "stroke": 1}
    folds = make_folds(merged, folds=3)
    fold = int(folds.fold_of(str(merged.cases.set_index("dataset").loc["stroke", "subject"])) or 0)
    run = experiment(merged, tmp_path / "runs", spacing=3.0, fold=fold, steps_per_epoch=2, patch=32).train().predict().evaluate()
    assert run.label_sets == {"lesion"} or tuple(run.label_sets) == ("lesion",)
    tested = merged.cases[merged.cases["case"].map(run.split) == "test"]
    metrics = run.run.metrics()
    assert set(metrics["region"]) == {"lesion"}
    for row in tested.itertuples():
        rows = metrics[(metrics["case"] == row.case) & (metrics["metric"] == "dice")]
        assert list(rows["dataset"]) == [row.dataset]
        assert (rows["n_truth"] > 0).all()
    found = run.result_table("groups")
    if tested["dataset"].nunique() > 1:
        assert isinstance(found, pd.DataFrame)
        assert set(found.loc["dataset"].index.get_level_values("group")) == set(tested["dataset"])
    else:
        assert "one dataset (stroke)" in found.data
