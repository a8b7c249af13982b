"""Runs written for other tools: nothing is lost, nothing doubled, nothing sent."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from workbench.cohort.table import Cohort
from workbench.errors import InputError, RunError, WorkbenchError
from workbench.exchange.export_bids import bids_names, export_bids, mask_label_set
from workbench.exchange.export_csv import DICTIONARY, export_csv
from workbench.exchange.export_mlflow import export_mlflow
from workbench.exchange.imported_run import import_predictions
from workbench.files import read_json, write_json, write_parquet
from workbench.records.run_folder import RunFolder


@pytest.fixture(scope="module")
def runs(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """A completed run with subset tables, and one that failed."""
    root = tmp_path_factory.mktemp("exported") / "runs"
    cases = fabricate.make_cases(test=30, validation=10, train=0, external=0)
    given = {"resamples": 100, "note": "x" * 900}
    done = fabricate.make_run(root, "demo", "mts_unet", "completed", seed=2, cases=cases, given=given)
    done.path("figures", "training.png").write_bytes(b"png")
    done.path("checkpoints", "best.safetensors").write_bytes(b"weights")
    return [done, fabricate.make_run(root, "demo", "unet", "failed", seed=5, cases=cases)]


def test_csv_tables_are_those_of_the_run(runs: list[RunFolder], tmp_path: Path) -> None:
    out = export_csv([run.folder for run in runs], tmp_path / "csv")
    mine = out / f"demo_{runs[0].folder.name}"
    for name in ("metrics", "markers", "subset_metrics", "subset_markers"):
        table = getattr(runs[0], name)()
        found = pd.read_csv(mine / f"{name}.csv", dtype={"case": str, "subject": str, "class": str})
        pd.testing.assert_frame_equal(found, table.reset_index(drop=True), check_dtype=False)
        joined = pd.read_csv(out / f"{name}.csv")
        assert len(joined) == len(table)
        assert set(joined["run"]) == {runs[0].folder.name}
        assert joined["phantom"].all()
    assert json.loads((mine / "spec.json").read_text()) == runs[0].spec
    listed = pd.read_csv(out / "runs.csv").set_index("run")
    assert listed.loc[runs[1].folder.name, "status"] == "failed"
    assert json.loads(listed.loc[runs[0].folder.name, "parameters"])["seed"] == 2
    summary = pd.read_csv(mine / "summary.csv").set_index(["split", "of", "metric"]).sort_index()
    row = summary.loc[("test", "WT", "dice")]
    values = runs[0].metrics().query("split == 'test' and region == 'WT' and metric == 'dice'")["value"]
    assert row["value"] == pytest.approx(values.mean())
    assert row["low"] < row["value"] < row["high"]
    assert row["n"] == 30
    assert ("test", "idh mutant", "auc") in summary.index
    assert "Phantom results" in (out / "README.txt").read_text()


def test_every_column_is_in_the_data_dictionary(runs: list[RunFolder], tmp_path: Path) -> None:
    out = export_csv([runs[0].folder], tmp_path / "csv")
    dictionary = pd.read_csv(out / "data_dictionary.csv")
    assert list(dictionary["column"]) == list(DICTIONARY)
    assert dictionary["description"].notna().all()
    for path in out.rglob("*.csv"):
        if path.name != "data_dictionary.csv":
            assert set(pd.read_csv(path, nrows=1).columns) <= set(dictionary["column"]), path.name


@pytest.mark.slow
def test_mlflow_gets_every_run_once(runs: list[RunFolder], tmp_path: Path) -> None:
    folders = [run.folder for run in runs]
    done = export_mlflow(folders, tmp_path / "ml")
    assert (done.added, done.there) == (2, 0)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'ml'}/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    found = {run.data.tags["workbench.run"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {run.folder.name for run in runs}
    first, failed = (found[run.folder.name] for run in runs)
    assert (first.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert first.info.run_name == f"mts_unet·{runs[0].folder.name[:6]}"
    assert first.data.params["seed"] == "2"
    assert first.data.params["note"] == "long: see spec.json"
    assert first.data.tags["workbench.phantom"] == "true"
    values = runs[0].metrics().query("split == 'test' and region == 'WT' and metric == 'dice'")["value"]
    assert first.data.metrics["test/dice WT"] == pytest.approx(values.mean())
    assert first.data.metrics["test/dice WT/n"] == 30
    assert first.data.metrics["test/dice WT/low"] < values.mean()
    events = runs[0].events().query("name == 'train/dice_ce'")
    history = {point.step: point.value for point in client.get_metric_history(first.info.run_id, "train/dice_ce")}
    assert history == pytest.approx(dict(zip(events["step"], events["value"], strict=True)))
    kept = {path.path for path in client.list_artifacts(first.info.run_id)}
    assert {"spec.json", "metrics.parquet", "markers.parquet", "summary.csv", "figures"} <= kept
    assert "checkpoints" not in kept
    assert Path(first.info.artifact_uri.removeprefix("file://")).is_relative_to(tmp_path / "ml")
    # again: nothing doubled; with checkpoints: only these
    assert export_mlflow(folders, tmp_path / "ml").added == 0
    assert export_mlflow(folders, tmp_path / "ml", checkpoints=True).added == 0
    assert len(client.search_runs([experiment.experiment_id])) == 2
    assert "checkpoints" in {path.path for path in client.list_artifacts(first.info.run_id)}
    # a run that went on is written anew
    status = read_json(runs[1].path("status.json"))
    write_json(runs[1].path("status.json"), status | {"state": "cancelled", "finished": "2030-01-01T00:00:00+00:00"})
    try:
        assert export_mlflow(folders, tmp_path / "ml").added == 1
    finally:
        write_json(runs[1].path("status.json"), status)
    # and one that was judged further, whose end is what it was
    runs[0].path("report.html").write_text("later")
    try:
        assert export_mlflow([runs[0].folder], tmp_path / "ml").added == 1
    finally:
        runs[0].path("report.html").unlink()
    assert len(client.search_runs([experiment.experiment_id])) == 2


_WITHOUT_NETWORK = """
import socket, sys, time
attempts = []
def refuse(self, address):
    if self.family != socket.AF_UNIX:
        attempts.append(address)
        raise OSError("no network here")
def unknown(host, *_, **__):
    attempts.append(host)
    raise OSError("no names here")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = unknown
from workbench.exchange.export_mlflow import export_mlflow
assert export_mlflow([sys.argv[1]], sys.argv[2]).added == 1
time.sleep(3)  # MLflow asks for its settings from a thread
print(attempts)
"""


@pytest.mark.slow
def test_mlflow_sends_nothing(runs: list[RunFolder], tmp_path: Path) -> None:
    """In a process of its own: MLflow switches its statistics off by itself where it sees pytest or a CI."""
    hidden = ("PYTEST", "CI", "MLFLOW", "DO_NOT_TRACK", "GITHUB", "JENKINS", "BUILD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    command = [sys.executable, "-c", _WITHOUT_NETWORK, str(runs[1].folder), str(tmp_path / "ml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[]"


def test_mlflow_that_is_not_there_is_said(runs: list[RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(WorkbenchError, match=r"pip install 'brain-mri-workbench\[mlflow\]'"):
        export_mlflow([runs[0].folder], tmp_path / "ml")
    with pytest.raises(WorkbenchError, match="--out"):
        export_mlflow([runs[0].folder])
    with pytest.raises(RunError):
        export_mlflow([tmp_path / "nothing"], tmp_path / "ml")


@pytest.fixture(scope="module")
def imported(tiny_cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Four cases' truth as predictions, with an IDH probability."""
    root = tmp_path_factory.mktemp("bids")
    info = tiny_cohort.info.model_copy(update={"image_root": str(tiny_cohort.folder)})
    cohort = Cohort.create(root / "cohort", info, tiny_cohort.cases.iloc[[0, 1, 4, 5]])
    (root / "theirs").mkdir()
    for case in cohort.cases["case"]:
        (root / "theirs" / f"{case}.nii.gz").write_bytes(cohort.path(case, "segmentation").read_bytes())
    rows = [{"case": case, "marker": "idh", "probability": 0.25} for case in cohort.cases["case"]]
    pd.DataFrame(rows).to_csv(root / "idh.csv", index=False)
    return import_predictions(
        root / "theirs", cohort, "nnU-Net v2", labels="brats2023", probabilities=root / "idh.csv", runs=root / "runs",
        resamples=100, progress=False,
    )  # fmt: skip


NAME = re.compile(
    r"sub-(?P<s>[A-Za-z0-9]+)/(ses-(?P<t>[A-Za-z0-9]+)/)?anat/sub-(?P=s)(_ses-(?P=t))?_space-orig_desc-[A-Za-z0-9]+"
    r"_dseg\.(nii\.gz|json|tsv)"
)


def test_bids_names_and_side_cars(imported: RunFolder, tmp_path: Path) -> None:
    out = export_bids([imported.folder], tmp_path / "bids")
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.parent != out)
    images = [name for name in files if not name.startswith("phenotype/")]
    assert len(images) == 4 * 3
    assert all(NAME.fullmatch(name) for name in images), images
    described = read_json(out / "dataset_description.json")
    assert {"Name", "BIDSVersion", "DatasetType", "GeneratedBy"} <= set(described)
    assert described["DatasetType"] == "derivative"
    desc = f"nnUNetv2{imported.folder.name[:6]}"
    stem = out / f"sub-TINY00000/anat/sub-TINY00000_space-orig_desc-{desc}_dseg"
    image = nib.load(f"{stem}.nii.gz")
    np.testing.assert_array_equal(image.dataobj, nib.load(imported.path("predictions", "TINY-00000-000.nii.gz")).dataobj)
    labels = pd.read_csv(f"{stem}.tsv", sep="\t", keep_default_na=False)
    assert labels.set_index("index")["abbreviation"].to_dict() == {0: "BG", 1: "NCR", 2: "ED", 3: "ET", 4: "RC"}
    whole = pd.read_csv(out / f"sub-TINY00004/anat/sub-TINY00004_space-orig_desc-{desc}_dseg.tsv", sep="\t")
    assert whole["name"].tolist() == ["background", "whole tumour"]
    assert read_json(Path(f"{stem}.json"))["SpatialReference"] == "orig"
    markers = pd.read_csv(out / "phenotype" / f"markers{desc}.tsv", sep="\t")
    assert markers["participant_id"].tolist() == ["sub-TINY00000", "sub-TINY00001", "sub-TINY00004", "sub-TINY00005"]
    assert set(markers["idh_mutant"]) == {0.25}
    names = pd.read_csv(out / "names.tsv", sep="\t").set_index("case")
    assert names.loc["TINY-00004-000", "subject"] == "TINY00004"
    assert "Phantom" in (out / "README").read_text()
    mask = next(out.rglob("*_dseg.nii.gz"))
    mask.write_bytes(b"corrected by hand")  # in place, as viewers save
    assert all(path.stat().st_nlink == 1 for path in imported.folder.joinpath("predictions").iterdir()), "the run's own stays"
    export_bids([imported.folder], out)  # again is the same
    assert pd.read_csv(out / "descriptions.tsv", sep="\t")["desc_id"].tolist() == [f"desc-{desc}"]


def test_bids_labels_are_those_that_the_model_tells_apart(imported: RunFolder, tmp_path: Path) -> None:
    """A whole-tumour model on a case whose truth has three labels, and a model of three on a whole-tumour case."""
    cohort = Cohort.open(imported.cohort_path)
    spec = {key: value for key, value in imported.spec.items() if key not in ("derived", "title")} | {"method": "unet"}
    found = {}
    for classes in (2, 4):
        copy = RunFolder.open(shutil.copytree(imported.folder, tmp_path / f"{classes}" / imported.folder.name))
        write_json(copy.path("training.json"), {"model": {"classes": classes}})
        for name, document in (("trained", spec), ("imported", imported.spec)):
            labels = {2: "whole_tumour", 4: "brats2023"}[classes]
            write_json(copy.path("spec.json"), document | {"parameters": {"labels": labels}})
            for case in ("TINY-00000-000", "TINY-00004-000"):
                found[name, classes, case[8:10]] = mask_label_set(RunFolder.open(copy.folder), cohort, case)
    assert found == {
        ("trained", 2, "00"): "WT", ("trained", 2, "04"): "WT", ("trained", 4, "00"): "glioma", ("trained", 4, "04"): "glioma",
        ("imported", 2, "00"): "WT", ("imported", 2, "04"): "WT", ("imported", 4, "00"): "glioma", ("imported", 4, "04"): "WT",
    }  # fmt: skip


def test_bids_of_a_run_of_markers_lists_no_participants_without_a_folder(imported: RunFolder, tmp_path: Path) -> None:
    run = RunFolder.open(shutil.copytree(imported.folder, imported.folder.parents[1] / "markers" / imported.folder.name))
    shutil.rmtree(run.path("predictions"))
    out = export_bids([run.folder], tmp_path / "bids")
    assert not (out / "participants.tsv").exists(), "its rows have to be the folders: PARTICIPANT_ID_MISMATCH"
    assert len(pd.read_csv(next(out.glob("phenotype/*.tsv")), sep="\t")) == 4
    export_bids([imported.folder], out)
    assert len(pd.read_csv(out / "participants.tsv", sep="\t")) == 4


def test_bids_refuses_what_it_would_spoil(imported: RunFolder, runs: list[RunFolder], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(WorkbenchError, match="not empty"):
        export_bids([imported.folder], tmp_path)
    with pytest.raises(RunError, match="different cohorts"):
        export_bids([imported.folder, runs[0].folder], tmp_path / "bids")
    with pytest.raises(RunError, match="cohort cannot be read"):
        export_bids([runs[0].folder], tmp_path / "bids")
    assert not (tmp_path / "bids").exists()


def test_bids_labels_tell_subjects_and_sessions_apart() -> None:
    def table(*rows: tuple[str, str, object]) -> pd.DataFrame:
        return pd.DataFrame(rows, columns=["case", "subject", "timepoint"])

    found = bids_names(table(("P-1_a", "P-1", "pre op"), ("P-1_b", "P-1", "2"), ("P-2_a", "P-2", None)))
    assert found["subject"].tolist() == ["P1", "P1", "P2"]
    assert found["session"].tolist() == ["preop", "2", "01"]
    assert bids_names(table(("a", "A-1", "0")))["session"].tolist() == [""], "one case each: no sessions"
    with pytest.raises(InputError, match="subjects A-1, a1 would all be 'sub-a1'"):
        bids_names(table(("x", "A-1", None), ("y", "a1", None)))
    with pytest.raises(InputError, match="cases x, y of one subject"):
        bids_names(table(("x", "A", "t.1"), ("y", "A", "t1")))
    with pytest.raises(InputError, match="neither letters nor digits"):
        bids_names(table(("x", "--", None)))


def test_a_run_without_predictions_is_not_exported_as_masks(imported: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder.open(shutil.copytree(imported.folder, imported.folder.parents[1] / "other" / imported.folder.name))
    shutil.rmtree(copy.path("predictions"))
    write_parquet(copy.path("markers.parquet"), copy.markers().head(0))
    with pytest.raises(RunError, match="neither predicted masks nor marker"):
        export_bids([copy.folder], tmp_path / "bids")


def test_nothing_is_exported_into_a_run_folder(runs: list[RunFolder], tmp_path: Path) -> None:
    before = sorted(path.name for path in runs[0].folder.iterdir())
    for out in (runs[0].folder, runs[0].folder / "csv"):
        with pytest.raises(RunError, match="an export goes to a folder of its own"):
            export_csv([runs[0].folder], out)
        with pytest.raises(RunError, match="an export goes to a folder of its own"):
            export_mlflow([runs[0].folder], out)
    assert sorted(path.name for path in runs[0].folder.iterdir()) == before
