"""Whether a test is clean of the weights a run started from, and that every list and table says so."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import panel as pn
import pytest

from app.inspection import RunPanel
from app.overview import OverviewPage
from app.state import AppState
from app.store import Store
from workbench.cohort.readers import import_cohort
from workbench.cohort.table import Cohort, CohortInfo
from workbench.errors import ParameterError
from workbench.files import write_json, write_parquet
from workbench.models.pretrained.kinds import KINDS
from workbench.models.pretrained.seen import Seen, seen_cohort, subject_digest
from workbench.records.index import list_runs
from workbench.records.pretrained import PRETRAINED_FILE, read_pretrained_record
from workbench.records.run_folder import RunFolder
from workbench.reports.comparison import compare
from workbench.reports.run_report import result_table
from workbench.setup.contamination import judge
from workbench.setup.parameters import ExperimentParameters
from workbench.steps.sensitivity import SENSITIVITY_FILE, UNDISTURBED
from workbench.views.tables import cautions, runs_table


def info(*collections: str, phantom: bool = False) -> CohortInfo:
    return CohortInfo(name="here", modalities=("t1",), collections=collections, phantom=phantom)


@pytest.mark.parametrize(
    ("kind", "collections", "verdict", "says"),
    [
        # UK Biobank alone is the clean arm, also where the cohort does not say what it is
        ("bsf_ukb", (), "clean", "UK Biobank"),
        ("bsf_ukb", ("brats2021",), "clean", "UK Biobank"),
        ("bsf_ukb", ("ukb",), "contaminated", "which this cohort is made of"),
        ("bsf_ukb", ("atlas",), "unknown", "may have seen"),
        # BraTS-stage weights have seen BraTS 2021, hence TCGA, UCSF-PDGM, UPENN-GBM and Ivy GAP, and BraTS 2023 under other names
        ("bsf_brats", ("brats2021",), "contaminated", "BraTS 2021"),
        ("bsf_brats", ("brats2023",), "contaminated", "shares subjects with this cohort's BraTS 2023"),
        ("bsf_finetuned", ("tcga-gbm", "tcga-lgg"), "contaminated", "TCGA-GBM"),
        ("monai_brats21", ("ucsf-pdgm",), "contaminated", "UCSF-PDGM"),
        ("bsf_brats", ("upenn-gbm",), "contaminated", "UPENN-GBM"),
        ("bsf_brats", ("private", "ivygap"), "contaminated", "Ivy GAP"),
        ("bsf_brats", ("egd",), "clean", "none of it"),
        ("bsf_brats", ("private",), "clean", "none of it"),
        ("bsf_brats", (), "unknown", "--collection NAME"),
        ("bsf_brats", ("brats2024",), "unknown", "may have seen"),
        ("monai_ct", ("brats2021",), "clean", "no brain MRI collection"),
        ("monai_dae", ("private",), "unknown", "nobody has published"),
    ],
)
def test_what_each_file_has_seen(kind: str, collections: tuple[str, ...], verdict: str, says: str) -> None:
    found = judge(KINDS[kind].seen, info(*collections), ["a", "b"])
    assert found.verdict == verdict, found.sentence
    assert says in found.sentence


def test_a_phantom_is_in_no_collection() -> None:
    assert judge(KINDS["bsf_brats"].seen, info(phantom=True), ["a"]).verdict == "clean"


def test_own_pretraining_is_judged_by_subject() -> None:
    seen = Seen(cohorts=(seen_cohort("there", "f00", (), ["anna", "otto"]),))
    assert "anna" not in seen.model_dump_json()
    assert Seen.model_validate_json(seen.model_dump_json()) == seen
    found = judge(seen, info(phantom=True), ["otto", "otto", "ida", "max"])
    assert found.verdict == "contaminated"
    assert "1 of 3 test subjects" in found.sentence
    # no name in common: clean within one cohort and after a phantom; another that does not say what it is made of may hold the
    # same people under other names
    assert judge(seen, info().model_copy(update={"name": "there"}), ["ida", "max"]).verdict == "clean"
    assert judge(Seen(cohorts=(seen_cohort("p", "f00", (), ["anna"], phantom=True),)), info(), ["ida"]).verdict == "clean"
    assert judge(Seen(cohorts=(seen_cohort("there", "f00", ("private",), ["anna"]),)), info(), ["ida"]).verdict == "unknown"
    for cohort in (info(), info("egd")):
        found = judge(seen, cohort, ["ida", "max"])
        assert (found.verdict, "cohort there, which does not say" in found.sentence) == ("unknown", True)
    # what a cohort was made of travels on: pretrained on BraTS subjects, tested on others under other names
    assert (
        judge(Seen(cohorts=(seen_cohort("x", "f", ("brats2021",), ["a"]),)), info("brats2023"), ["b"]).verdict == "contaminated"
    )
    # pretrained on the training subjects of a collection, tested on others of it
    assert judge(Seen(cohorts=(seen_cohort("x", "f", ("brats2021",), ["a"]),)), info("brats2021"), ["b"]).verdict == "clean"
    # the cohort tested on holds that collection as well, beside another in which the same people have other names
    shared = judge(Seen(cohorts=(seen_cohort("x", "f", ("brats2021",), ["a"]),)), info("brats2021", "ucsf-pdgm"), ["b"])
    assert (shared.verdict, "shares subjects with this cohort's UCSF-PDGM" in shared.sentence) == ("contaminated", True)
    split = Seen(cohorts=(seen_cohort("x", "f", ("brats2021", "ucsf-pdgm"), ["a"]),))  # of the very cohort, split by subject
    assert judge(split, info("ucsf-pdgm", "brats2021"), ["b"]).verdict == "clean"
    both = seen | KINDS["bsf_brats"].seen
    assert both.collections == ("ukb", "brats2021")
    assert both.cohorts == seen.cohorts


# what a cohort is made of


def test_readers_and_the_importer_say_what_a_cohort_is_made_of(tmp_path: Path) -> None:
    for case in ("BraTS2021_00000", "BraTS2021_00001"):
        (tmp_path / "images" / case).mkdir(parents=True)
        for suffix in ("t1", "t1ce", "t2", "flair"):
            image = nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4))
            nib.save(image, tmp_path / "images" / case / f"{case}_{suffix}.nii.gz")
    cohort = import_cohort("auto", tmp_path / "images", tmp_path / "one")
    assert cohort.info.collections == ("brats2021",)
    named = import_cohort("auto", tmp_path / "images", tmp_path / "two", collections=["tcga-gbm", "tcga-lgg"])
    assert Cohort.open(tmp_path / "two").info.collections == named.info.collections == ("tcga-gbm", "tcga-lgg")
    with pytest.raises(ParameterError, match=r"'ucsf' is unknown; there are .*ucsf-pdgm"):
        import_cohort("auto", tmp_path / "images", tmp_path / "three", collections=["ucsf"])
    assert not (tmp_path / "three").exists()


# the run's identity


def test_a_run_is_named_by_what_the_file_holds_not_by_where_it_lies(tmp_path: Path) -> None:
    def identity(name: str) -> dict[str, object]:
        return ExperimentParameters.build("mts_unet", {"pretrained": str(tmp_path / name)}).identity()

    for name, content in (("a.pt", b"one"), ("b.pt", b"one"), ("c.pt", b"two")):
        (tmp_path / name).write_bytes(content)
    assert identity("a.pt") == identity("b.pt") != identity("c.pt")
    assert str(tmp_path) not in json.dumps(identity("a.pt"))
    before = identity("a.pt")
    (tmp_path / "a.pt").write_bytes(b"changed")
    assert identity("a.pt") != before
    kept = ExperimentParameters.build("mts_unet", {"pretrained": str(before["pretrained"])})  # read back from a run's spec
    assert kept.identity() == before


# where it is shown


def run(root: Path, name: str, verdict: str) -> RunFolder:
    spec = {
        "run": name,
        "method": "mts_unet",
        "experiment": "default",
        "parameters": {},
        "cohort": {"name": "x", "phantom": False},
    }
    made = RunFolder.create(root / "default", spec)
    if verdict:
        write_json(
            made.path(PRETRAINED_FILE),
            {
                "coverage": {"file": "w.pt", "title": "W"},
                "report": "w.pt: W\nloaded 1 of 2",
                "contamination": {"verdict": verdict, "sentence": f"It is {verdict} <here>."},
            },
        )
    rows = {"case": ["a", "b", "c"], "subject": ["a", "b", "c"], "site": "s", "fold": 0, "split": "test", "present": "t1"}
    table = pd.DataFrame(rows | {"region": "WT", "metric": "dice", "value": [0.1, 0.5, 0.7], "n_truth": 5, "n_prediction": 5})
    write_parquet(made.path("metrics.parquet"), table)
    columns = ["case", "subject", "site", "fold", "split", "present", "marker", "class", "truth", "logit", "probability"]
    write_parquet(made.path("markers.parquet"), pd.DataFrame(columns=columns))
    return made


def test_lists_tables_and_comparisons_mark_it(tmp_path: Path) -> None:
    folders = {verdict: run(tmp_path, verdict or "plain", verdict) for verdict in ("", "clean", "unknown", "contaminated")}
    rows = {row.run: row for row in list_runs(tmp_path)}
    table = runs_table(list(rows.values()), {})
    for name, marked in (("plain", False), ("clean", False), ("unknown", True), ("contaminated", True)):
        cell = str(table.loc[f"default/{name}", "Run"])
        assert ("⚠" in cell) == marked, name
        assert "<here>" not in cell, "escaped"
    assert "⚠ contaminated test" in str(table.loc["default/contaminated", "Run"])
    assert len(cautions(rows.values())) == 2
    assert rows["default/plain"].pretrained.as_dict() is None
    remark = compare(folders[""], folders["contaminated"], resamples=200)["remark"].iloc[0]
    assert "It is contaminated" in remark
    assert "contaminated" not in compare(folders[""], folders["clean"], resamples=200)["remark"].iloc[0]


@pytest.mark.parametrize("kind", ["decisions", "calibration", "sensitivity"])
def test_tables_of_markers_mark_it(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"s{number:02d}" for number in range(24)]
    who = {"case": names, "subject": names, "site": "s", "fold": 0, "split": "test", "present": "t1", "marker": "idh"}
    logit = rng.normal(size=24)
    rows = pd.DataFrame(
        who | {"class": "mutant", "truth": [0.0, 1.0] * 12, "logit": logit, "probability": 1 / (1 + np.exp(-logit))}
    )
    for verdict in ("clean", "contaminated"):
        made = run(tmp_path, verdict, verdict)
        write_parquet(made.path("markers.parquet"), rows)
        write_parquet(made.path(SENSITIVITY_FILE), rows.assign(disturbance=UNDISTURBED))
        asked = SimpleNamespace(
            run=made, cohort=SimpleNamespace(info=info()), parameters=SimpleNamespace(resamples=100, method="mts_unet")
        )
        table = result_table(asked, kind)  # type: ignore[arg-type]
        assert ("⚠ contaminated test" in table.columns.name) == (verdict == "contaminated")


def test_the_dashboard_says_it(tmp_path: Path) -> None:
    pn.extension("tabulator")
    for verdict in ("", "contaminated"):
        run(tmp_path, verdict or "plain", verdict)
    store = Store(tmp_path)
    page = OverviewPage(AppState(page="overview", runs=["default/contaminated", "default/plain"]), store)
    assert "⚠ contaminated test" in str(page.table.value.loc["default/contaminated", "Run"])
    assert "It is contaminated &lt;here&gt;." in page.comparison.notes.object
    state = AppState(run="default/contaminated")
    panel = RunPanel(state, store)
    panel.refresh()
    assert "It is contaminated &lt;here&gt;." in panel.facts.object
    state.run = "default/plain"
    assert "Started from" not in panel.facts.object


def test_a_damaged_record_is_unknown_not_clean(tmp_path: Path) -> None:
    folder = run(tmp_path, "broken", "clean").folder
    (folder / PRETRAINED_FILE).write_text("{}")
    assert read_pretrained_record(folder).verdict == "unknown"
    assert list_runs(tmp_path)[0].pretrained.mark


def test_digests_stand_for_subjects() -> None:
    assert subject_digest("a") == subject_digest("a") != subject_digest("b")
    assert len(subject_digest("BraTS2021_00001")) == 16
