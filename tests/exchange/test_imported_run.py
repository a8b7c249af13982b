"""Other people's predictions as a run: judged like our own, and refused with every problem named."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort
from workbench.errors import InputError, ParameterError
from workbench.exchange.imported_run import import_predictions
from workbench.files import read_json
from workbench.records.index import list_runs
from workbench.reports.comparison import compare


@pytest.fixture(scope="module")
def few(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three of them: one without a mask, one with a whole-tumour mask."""
    info = tiny_cohort.info.model_copy(update={"image_root": str(tiny_cohort.folder)})
    cohort = Cohort.create(tmp_path_factory.mktemp("few"), info, tiny_cohort.cases.iloc[[0, 3, 4]])
    make_folds(cohort, folds=3)
    return cohort


@pytest.fixture(scope="module")
def masks(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth of every case that has one, as if somebody had predicted it."""
    folder = tmp_path_factory.mktemp("theirs")
    for case in tiny_cohort.cases["case"]:
        if (path := tiny_cohort.path(case, "segmentation")) is not None:
            (folder / f"{case}.nii.gz").write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def few_masks(masks: Path, few: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(masks, tmp_path_factory.mktemp("few_masks"), set(few.cases["case"]))


@pytest.fixture
def few_copy(few_masks: Path, tmp_path: Path) -> Path:
    return copied(few_masks, tmp_path / "theirs")


def copied(masks: Path, folder: Path, cases: set[str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for path in masks.iterdir():
        if cases is None or path.name.removesuffix(".nii.gz") in cases:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def copy(masks: Path, tmp_path: Path) -> Path:
    return copied(masks, tmp_path / "theirs")


def probabilities(cohort: Cohort, path: Path, *, off: float = 0.0) -> Path:
    rows = []
    for index, row in cohort.cases.iterrows():
        rows.append({"case": row["case"], "marker": "idh", "class": "", "probability": abs(row["idh"] - 0.1 - off)})
        shares = np.full(3, 0.1 + off / 4)
        shares[int(row["grade"]) - 2] = 1 - shares[:2].sum()
        rows += [{"case": row["case"], "marker": "grade", "class": str(g), "probability": shares[g - 2]} for g in (2, 3, 4)]
        assert index is not None
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def change(path: Path, edit: object) -> None:
    image = nib.load(path)
    array, affine = np.asarray(image.dataobj), image.affine
    made = edit(array.copy(), affine.copy())
    nib.save(made if isinstance(made, nib.Nifti1Image) else nib.Nifti1Image(made, affine), path)


def test_a_perfect_prediction_scores_one_and_stands_beside_others(few: Cohort, few_masks: Path, tmp_path: Path) -> None:
    table = probabilities(few, tmp_path / "markers.csv")
    common = {"labels": "brats2023", "fold": "all", "runs": tmp_path / "runs", "resamples": 100, "progress": False}
    run = import_predictions(few_masks, few, "nnU-Net v2", probabilities=table, **common)
    metrics, markers = run.metrics(), run.markers()
    assert set(metrics.loc[metrics["metric"] == "dice", "value"]) == {1.0}
    assert metrics["case"].nunique() == 2, "one case has no mask to judge by"
    assert set(metrics.loc[metrics["case"] == "TINY-00004-000", "region"]) == {"WT"}
    assert sorted(markers["fold"].unique()) == [0, 1, 2]
    idh = markers[markers["marker"] == "idh"]
    assert (idh["truth"] == idh["case"].map(few.cases.set_index("case")["idh"].astype(float))).all()
    np.testing.assert_allclose(1 / (1 + np.exp(-markers["logit"])), markers["probability"], atol=1e-6)
    assert run.state == "completed"
    assert read_json(run.path("imported.json"))["masks"]["TINY-00000-000"]["file"] == "TINY-00000-000.nii.gz"
    (row,) = list_runs(tmp_path / "runs")
    assert row.title.startswith("nnU-Net v2 · ")
    predicted = nib.load(run.path("predictions", "TINY-00000-000.nii.gz"))
    np.testing.assert_array_equal(predicted.affine, nib.load(few.path("TINY-00000-000", "t1")).affine)
    # the same files are the same run; another name is another
    stamp = run.path("metrics.parquet").stat().st_mtime_ns
    again = import_predictions(few_masks, few, "nnU-Net v2", probabilities=table, **common)
    assert (again.folder, again.path("metrics.parquet").stat().st_mtime_ns) == (run.folder, stamp)
    other = import_predictions(few_masks, few, "winner", probabilities=table, **common)
    assert other.folder != run.folder
    found = compare(run, other, resamples=100)
    assert found["first"].iloc[0].startswith("nnU-Net v2 ")
    assert set(found.loc[found["of"] == "WT", "difference"]) == {0.0}


def test_masks_of_another_convention_are_converted(few: Cohort, few_copy: Path, tmp_path: Path) -> None:
    rounded = np.diag([1.0, 1, 1, 0]) * 1e-3  # as other tools write an affine that they had as a quaternion
    for path in few_copy.iterdir():
        change(path, lambda a, affine: nib.Nifti1Image(np.where(a == 3, 4, a).astype(np.uint8), affine + 3 * rounded))
    with pytest.raises(InputError, match="brats2023"):
        import_predictions(few_copy, few, "x", labels="brats2023", runs=tmp_path / "runs", progress=False)
    run = import_predictions(few_copy, few, "x", labels="brats2021", runs=tmp_path / "runs", resamples=100, progress=False)
    assert set(run.metrics().query("metric == 'dice'")["value"]) == {1.0}
    assert np.unique(nib.load(run.path("predictions", "TINY-00000-000.nii.gz")).dataobj).tolist() == [0, 1, 2, 3]


def test_a_binary_mask_is_judged_as_whole_tumour_only(few: Cohort, few_copy: Path, tmp_path: Path) -> None:
    for path in few_copy.iterdir():
        change(path, lambda a, _: (a > 0).astype(np.uint8))
    run = import_predictions(few_copy, few, "x", labels="whole_tumour", runs=tmp_path / "runs", resamples=100, progress=False)
    assert set(run.metrics()["region"]) == {"WT"}
    assert set(run.metrics().query("metric == 'dice'")["value"]) == {1.0}


def test_every_problem_is_named_and_nothing_is_written(tiny_cohort: Cohort, copy: Path, tmp_path: Path) -> None:
    def moved(array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
        affine[0, 3] += 4
        return nib.Nifti1Image(array, affine)

    def name(number: int) -> Path:
        return copy / f"TINY-{number:05d}-000.nii.gz"

    change(name(0), lambda a, _: np.where(a > 0, 7, 0).astype(np.uint8))
    change(name(1), lambda a, _: a.astype(np.float32) * 0.5)
    change(name(2), lambda a, _: np.stack([a, a], axis=-1))
    change(name(4), moved)
    change(name(5), lambda a, affine: nib.Nifti1Image(a[::-1, ::-1].copy(), affine @ np.diag([-1, -1, 1, 1])))
    change(name(6), lambda a, _: a[:-1])
    change(name(7), lambda a, _: np.where(a > 0, np.nan, 0).astype(np.float32))
    turn = np.array([[0.998, -0.063, 0, 0], [0.063, 0.998, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    change(name(11), lambda a, affine: nib.Nifti1Image(a, turn @ affine))
    name(8).write_bytes(name(8).read_bytes()[:200])
    name(9).unlink()
    (copy / "STRANGER.nii.gz").write_bytes(name(10).read_bytes())
    (copy / "more").mkdir()
    (copy / "more" / name(10).name).write_bytes(name(10).read_bytes())
    options = {"pattern": "*.nii.gz", "labels": "brats2023", "runs": tmp_path / "runs", "progress": False}
    with pytest.raises(InputError) as caught:
        import_predictions(copy, tiny_cohort, "x", **options)
    text = {problem.case: str(problem) for problem in caught.value.problems}
    for number, expected in {
        0: "holds 7", 1: "0.5", 2: "4-D", 4: "4 mm apart", 5: "axes run", 6: "35 x 44 x 30 voxels", 7: "NaN", 8: "truncated",
        9: "no prediction", 11: "corners up to 7.46 mm",
    }.items():  # fmt: skip
        assert expected in text[f"TINY-{number:05d}-000"], text.get(f"TINY-{number:05d}-000")
    assert "no such case" in text["STRANGER"]
    assert len(caught.value.problems) == 11
    assert not list((tmp_path / "runs").rglob("*.*"))
    (copy / "TINY-00003-000.nii").write_bytes(b"")
    (copy / "TINY-00003-000.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="two files: TINY-00003"):
        import_predictions(copy, tiny_cohort, "x", **options | {"pattern": "{case}.nii*"})


def test_missing_cases_are_recorded_where_that_is_allowed(few: Cohort, few_copy: Path, tmp_path: Path) -> None:
    (few_copy / "TINY-00000-000.nii.gz").unlink()
    common = {"labels": "brats2023", "runs": tmp_path / "runs", "resamples": 100, "progress": False}
    whole = import_predictions(few_copy, few, "x", allow_missing=True, **common)
    assert whole.spec["derived"]["missing"] == 1
    assert read_json(whole.path("imported.json"))["missing"] == [{"case": "TINY-00000-000", "what": "mask"}]
    assert any("1 cases lack a prediction" in note for note in whole.status["notes"])


def test_a_fold_takes_its_test_cases_and_no_training_case(tiny_cohort: Cohort, masks: Path, tmp_path: Path) -> None:
    common = {"labels": "brats2023", "fold": 0, "runs": tmp_path / "runs", "resamples": 100, "progress": False}
    with pytest.raises(InputError, match="a training case of fold 0"):
        import_predictions(masks, tiny_cohort, "x", **common)
    from workbench.setup.opening import open_split

    split = open_split(tiny_cohort, 0)
    folder = tmp_path / "some"
    folder.mkdir()
    for case in split.index[split == "test"]:
        if (masks / f"{case}.nii.gz").is_file():
            (folder / f"{case}_pred.nii.gz").write_bytes((masks / f"{case}.nii.gz").read_bytes())
    run = import_predictions(folder, tiny_cohort, "x", pattern="{case}_pred.nii.gz", **common)
    assert set(run.metrics()["split"]) == {"test"}
    assert set(run.metrics()["fold"]) == {0}
    with pytest.raises(InputError, match=r"no file matches .*--glob"):
        import_predictions(folder, tiny_cohort, "x", pattern="pred_*.nii", **common)
    for bad in ({"fold": "some"}, {"fold": 17}, {"labels": ""}, {"labels": "mine"}, {"modalities": "ct"}, {"split": "train"}):
        with pytest.raises(ParameterError):
            import_predictions(folder, tiny_cohort, "x", **common | bad)
    with pytest.raises(ParameterError, match="has no external cases"):
        import_predictions(folder, tiny_cohort, "x", **common | {"split": "external"})
    with pytest.raises(ParameterError, match="name"):
        import_predictions(folder, tiny_cohort, " ", **common)


def test_a_table_alone_makes_a_run_of_markers(tiny_cohort: Cohort, tmp_path: Path) -> None:
    table = probabilities(tiny_cohort, tmp_path / "markers.csv")
    run = import_predictions(None, tiny_cohort, "winner", probabilities=table, runs=tmp_path / "runs", resamples=100)
    assert run.metrics().empty
    assert set(run.markers()["marker"]) == {"idh", "grade"}
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith("TINY-00002-000,idh")))
    with pytest.raises(InputError, match=r"case TINY-00002-000, channel idh: no prediction"):
        import_predictions(None, tiny_cohort, "winner", probabilities=table, runs=tmp_path / "runs")
    cases = tiny_cohort.cases.copy()
    cases.loc[cases["case"] == "TINY-00002-000", "idh"] = pd.NA
    info = tiny_cohort.info.model_copy(update={"image_root": str(tiny_cohort.folder)})
    unknown = Cohort.create(tmp_path / "unknown", info, cases)
    run = import_predictions(None, unknown, "winner", probabilities=table, runs=tmp_path / "runs", resamples=50)
    assert len(run.markers().query("marker == 'idh'")) == len(tiny_cohort) - 1, "what is unknown need not be predicted"
