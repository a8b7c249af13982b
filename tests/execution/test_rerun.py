"""A run made again from its spec.json: the same folder name, threads and parameters, or a refusal that says what changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from workbench.cohort.folds import make_folds
from workbench.cohort.table import Cohort, CohortInfo
from workbench.errors import ParameterError, RunError
from workbench.execution.rerun import plan_rerun, rerun
from workbench.files import read_json, write_json
from workbench.records.environment import code_version
from workbench.records.provenance import write_artefacts
from workbench.records.run_folder import RunFolder
from workbench.setup.opening import open_run
from workbench.setup.parameters import ExperimentParameters


def make_cohort(folder: Path) -> Cohort:
    """Twelve cases whose images are a few bytes each: nothing reads them here."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(12):
        case = f"C{index:02d}"
        for column in ("t1", "seg"):
            (folder / "images" / f"{case}-{column}.nii.gz").write_bytes(f"{case}{column}".encode())
        rows.append({"case": case, "subject": case, "t1": f"images/{case}-t1.nii.gz", "segmentation": f"images/{case}-seg.nii.gz",
                     "idh": index % 2})  # fmt: skip
    info = CohortInfo(name="small", modalities=("t1",), label_convention="brats2023", phantom=True)
    return Cohort.create(folder, info, pd.DataFrame(rows))


def open_it(tmp_path: Path, method: str = "unet", **values: object) -> RunFolder:
    given = {"cohort": str(tmp_path / "cohort"), "runs": str(tmp_path / "runs"), "size": "demo", **values}
    return open_run(ExperimentParameters.build(method, given), progress=False)[1]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run, queued, and made on a machine of five threads."""
    make_cohort(tmp_path / "cohort")
    run = open_it(tmp_path, seed=3, width=8)
    write_json(run.folder / "spec.json", {**run.spec, "threads": 5})
    return RunFolder.open(run.folder)


def finish(run: RunFolder) -> None:
    run.claim()
    run.set_status("completed")
    write_artefacts(run)


def again(tmp_path: Path, run: RunFolder, experiment: str = "default-rerun") -> RunFolder:
    return RunFolder.open(tmp_path / "runs" / experiment / run.folder.name)


def test_a_spec_says_where_it_comes_from(run: RunFolder) -> None:
    assert run.spec["environment"]["packages"]["torch"]
    assert len(run.spec["split"]) == 16
    assert run.spec["code_version"] == code_version()


def test_the_rerun_is_the_same_run_in_another_experiment(tmp_path: Path, run: RunFolder) -> None:
    before = (run.folder / "spec.json").read_bytes()
    said: list[str] = []
    given = plan_rerun(run.folder, tell=said.append)
    new = again(tmp_path, run)
    assert new.spec["run"] == run.spec["run"]
    for key in ("parameters", "threads", "split", "method"):
        assert new.spec[key] == run.spec[key], key
    assert new.cohort_path == run.cohort_path.resolve()
    assert new.spec["rerun_of"] == f"default/{run.folder.name}"
    assert new.state == "queued"
    assert said == []
    assert (run.folder / "spec.json").read_bytes() == before
    # what the driver is given leads to this very folder, with the recorded number of threads
    given.pop("method")
    assert open_run(ExperimentParameters.build("unet", given), progress=False)[1].folder.resolve() == new.folder.resolve()


def test_it_can_be_made_elsewhere_and_on_another_device(tmp_path: Path, run: RunFolder) -> None:
    plan_rerun(run.folder, runs=tmp_path / "other", experiment="again", values={"threads": "2", "device": "cpu"})
    (spec,) = (tmp_path / "other" / "again").glob("*/spec.json")
    found = read_json(spec)
    assert found["threads"] == 2
    assert found["parameters"]["device"] == "cpu"
    assert {k: v for k, v in found["parameters"].items() if k not in ("threads", "device")} == {
        k: v for k, v in run.spec["parameters"].items() if k not in ("threads", "device")
    }


def test_it_never_writes_into_the_run_itself(run: RunFolder) -> None:
    with pytest.raises(RunError, match="own folder"):
        plan_rerun(run.folder, experiment="default")


@pytest.mark.parametrize("values", [{"seed": 4}, {"epochs": 3}, {"cohort": "x"}, {"nonsense": 1}])
def test_what_a_run_is_may_not_be_set(run: RunFolder, values: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"'{next(iter(values))}' cannot be set"):
        plan_rerun(run.folder, values=values)


def test_a_changed_cohort_is_refused_and_the_cases_named(tmp_path: Path, run: RunFolder) -> None:
    finish(run)
    (tmp_path / "cohort" / "images" / "C04-t1.nii.gz").write_bytes(b"another image")
    table = pd.read_parquet(tmp_path / "cohort" / "cases.parquet").iloc[:-1]
    table.loc[table["case"] == "C07", "idh"] = 0
    table.to_parquet(tmp_path / "cohort" / "cases.parquet")
    with pytest.raises(RunError, match=r"not what it was .*2 changed \(C04, C07\), 1 gone \(C11\)"):
        plan_rerun(run.folder)
    assert not (tmp_path / "runs" / "default-rerun").exists()


def test_without_a_record_of_the_cases_the_images_are_named_that_changed_just_now(tmp_path: Path, run: RunFolder) -> None:
    (tmp_path / "cohort" / "images" / "C04-t1.nii.gz").write_bytes(b"another image")
    with pytest.raises(RunError, match=r"1 image changed since they were last read \(images/C04-t1\.nii\.gz\)"):
        plan_rerun(run.folder)
    with pytest.raises(RunError, match="which cases differ is not known"):  # by now the new digests are on file
        plan_rerun(run.folder)


def test_another_description_of_the_same_cases_is_said(tmp_path: Path, run: RunFolder) -> None:
    finish(run)
    info = read_json(tmp_path / "cohort" / "cohort.json")
    write_json(tmp_path / "cohort" / "cohort.json", {**info, "space": "MNI152"})
    with pytest.raises(RunError, match=r"the cases are the same, what cohort\.json says"):
        plan_rerun(run.folder)


def test_a_cohort_that_moved_is_found_where_one_says(tmp_path: Path, run: RunFolder) -> None:
    (tmp_path / "cohort").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="--cohort DIR"):
        plan_rerun(run.folder)
    shutil.copytree(tmp_path / "moved", tmp_path / "wrong")
    (tmp_path / "wrong" / "images" / "C00-t1.nii.gz").write_bytes(b"wrong")
    with pytest.raises(RunError, match="not what it was"):
        plan_rerun(run.folder, cohort=tmp_path / "wrong")
    plan_rerun(run.folder, cohort=tmp_path / "moved")
    assert again(tmp_path, run).cohort_path == (tmp_path / "moved").resolve()


@pytest.mark.parametrize("recorded", [True, False])
def test_folds_dealt_anew_are_refused(tmp_path: Path, run: RunFolder, recorded: bool) -> None:
    if not recorded:  # an older run, of which the tables alone tell
        split = read_json(tmp_path / "cohort" / "folds.json")
        write_json(run.folder / "spec.json", {**run.spec, "split": "", "environment": {}})
        assert split
        from workbench.setup.opening import open_split

        held_out = open_split(Cohort.open(tmp_path / "cohort"), 0)
        held_out = held_out[held_out != "train"]
        pd.DataFrame({"case": held_out.index, "split": held_out.to_numpy()}).to_parquet(run.folder / "metrics.parquet")
        plan_rerun(run.folder, experiment="before")
    make_folds(Cohort.open(tmp_path / "cohort"), seed=99, overwrite=True)
    with pytest.raises(RunError, match="dealt anew"):
        plan_rerun(run.folder)


def test_other_parameters_of_the_code_are_named(tmp_path: Path, run: RunFolder) -> None:
    spec = read_json(run.folder / "spec.json")
    write_json(run.folder / "spec.json", {**spec, "parameters": {**spec["parameters"], "temper": 1.0}, "code_version": "0.0.9"})
    with pytest.raises(RunError, match=r"no parameter temper any more.*0\.0\.9"):
        plan_rerun(run.folder)
    lacking = {name: value for name, value in spec["parameters"].items() if name != "clip"}
    write_json(run.folder / "spec.json", {**spec, "parameters": lacking})
    with pytest.raises(RunError, match="clip was 'not there', is"):
        plan_rerun(run.folder)


def test_a_pretrained_file_is_asked_for_and_must_be_the_same(tmp_path: Path) -> None:
    make_cohort(tmp_path / "cohort")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    run = open_it(tmp_path, "swin_unetr", pretrained=str(weights))
    with pytest.raises(ParameterError, match=r"weights\.safetensors.*-p pretrained=FILE"):
        plan_rerun(run.folder)
    (tmp_path / "other").write_bytes(b"other")
    with pytest.raises(ParameterError, match="not the file the run used"):
        plan_rerun(run.folder, values={"pretrained": str(tmp_path / "other")})
    weights.rename(tmp_path / "renamed")
    given = plan_rerun(run.folder, values={"pretrained": str(tmp_path / "renamed")})
    assert given["pretrained"] == str(tmp_path / "renamed")
    assert again(tmp_path, run).spec["parameters"] == run.spec["parameters"]


def test_derived_runs_are_not_made_again(run: RunFolder) -> None:
    write_json(run.folder / "spec.json", {**run.spec, "derived": {"kind": "pooled", "parents": ["a1", "b2"]}})
    with pytest.raises(RunError, match=r"pooled.*a1, b2"):
        plan_rerun(run.folder)


@pytest.fixture
def extended(tmp_path: Path, run: RunFolder) -> RunFolder:
    """A run that took `run` further."""
    finish(run)
    values = {name: value for name, value in run.spec["parameters"].items() if name != "method"} | {"epochs": 9}
    given = values | {"cohort": str(tmp_path / "cohort"), "runs": str(tmp_path / "runs")}
    derived = {"kind": "extended", "parents": [run.folder.name], "after": 40}
    return open_run(ExperimentParameters.build("unet", given), progress=False, derived=derived)[1]


def test_an_extended_run_is_made_again_after_its_parent(
    tmp_path: Path, run: RunFolder, extended: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def run_notebook(method: str, values: dict[str, object], *, derived: object = None, **_: object) -> RunFolder:
        _, there = open_run(ExperimentParameters.build(method, values), progress=False, derived=derived)  # type: ignore[arg-type]
        made.append(there.folder)
        return there

    monkeypatch.setattr("workbench.execution.notebook.run_notebook", run_notebook)
    found = rerun(extended.folder)
    assert [folder.name for folder in made] == [run.folder.name, extended.folder.name]
    assert {folder.parent for folder in made} == {tmp_path.resolve() / "runs" / "default-rerun"}
    assert found.spec["derived"] == extended.spec["derived"]
    assert found.spec["parameters"]["epochs"] == 9
    assert found.spec["threads"] == 5
    with pytest.raises(ParameterError, match="'threads' cannot be set"):
        rerun(extended.folder, values={"threads": 2})
    with pytest.raises(RunError, match="own folder"):
        rerun(extended.folder, experiment="default")
    shutil.rmtree(run.folder)
    with pytest.raises(RunError, match="it went on from run"):
        rerun(extended.folder)


def test_what_was_begun_on_other_folds_is_not_taken_up(tmp_path: Path, run: RunFolder) -> None:
    """Its training cases may be test cases now, and so may those of the run that it would take further."""
    make_folds(Cohort.open(tmp_path / "cohort"), folds=4, overwrite=True)
    with pytest.raises(RunError, match="begun on other folds"):
        open_it(tmp_path, seed=3, width=8)
    assert open_it(tmp_path, seed=3, width=8, experiment="another").spec["split"] != run.spec["split"]
    places = {"cohort": str(tmp_path / "cohort"), "runs": str(tmp_path / "runs")}
    values = {"seed": 3, "width": 8, "epochs": 9, "size": "demo", **places}
    derived = {"kind": "extended", "parents": [run.folder.name], "after": 40}
    with pytest.raises(RunError, match=f"{run.folder.name} was begun on other folds"):
        open_run(ExperimentParameters.build("unet", values), progress=False, derived=derived)


def test_other_code_and_another_environment_are_warned_of(run: RunFolder) -> None:
    spec = json.loads(json.dumps(run.spec))
    spec["environment"]["packages"]["torch"] = "1.0"
    write_json(run.folder / "spec.json", {**spec, "code_version": "0.0.9 (abc)"})
    said: list[str] = []
    plan_rerun(run.folder, tell=said.append)
    assert len(said) == 2
    assert "0.0.9 (abc)" in said[0]
    assert "packages.torch was 1.0, is" in said[1]
    write_json(run.folder / "spec.json", {**spec, "environment": {}, "code_version": code_version()})
    said.clear()
    plan_rerun(run.folder, experiment="more", tell=said.append)
    assert len(said) == 1
    assert "nothing of its environment" in said[0]


def test_a_rerun_that_is_there_is_said(tmp_path: Path, run: RunFolder) -> None:
    plan_rerun(run.folder)
    there = again(tmp_path, run)
    there.claim()
    there.set_status("completed")
    said: list[str] = []
    plan_rerun(run.folder, tell=said.append)
    assert len(said) == 1
    assert "not made again" in said[0]
