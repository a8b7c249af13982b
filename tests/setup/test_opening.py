"""From parameters to a run folder: what is refused, and what stands in `spec.json`."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.cohort.table import Cohort
from workbench.errors import ParameterError, RunError
from workbench.records.provenance import split_digest
from workbench.records.run_folder import RunFolder
from workbench.setup.opening import check_sequences, describe_run, open_run, open_split, require_same_split, thread_count
from workbench.setup.parameters import ExperimentParameters


def parameters(cohort: Cohort, runs: Path, **values: object) -> ExperimentParameters:
    given = {"size": "demo", "cohort": str(cohort.folder), "runs": str(runs), **values}
    return ExperimentParameters.build("unet", given)


def experiment(cohort: Cohort, folder: Path, **values: object) -> RunFolder:
    return open_run(parameters(cohort, folder, **values), progress=False)[1]


def test_withholding_must_leave_something_and_be_known(tiny_cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"withhold.*dwi is not among"):
        experiment(tiny_cohort, tmp_path, withhold="dwi")
    with pytest.raises(ParameterError, match="leaves nothing to learn from"):
        experiment(tiny_cohort, tmp_path, withhold="t1,t1c,t2,flair")


def test_a_missing_file_is_refused_before_there_is_a_run(tiny_cohort: Cohort, tmp_path: Path) -> None:
    values = {"cohort": str(tiny_cohort.folder), "runs": str(tmp_path / "runs"), "pretrained": str(tmp_path / "gone.pt")}
    with pytest.raises(ParameterError, match=r"'pretrained'.*gone.pt"):
        open_run(ExperimentParameters.build("mts_unet", values))
    assert not (tmp_path / "runs").exists()


def test_sequences_that_the_cohort_lacks_are_named_with_those_it_has(tiny_cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"cohort tiny has no dwi; it has t1, t1c, t2, flair"):
        check_sequences(parameters(tiny_cohort, tmp_path, modalities="t1,dwi"), tiny_cohort)
    with pytest.raises(ParameterError, match=r"flair is not among the run's modalities t1, t1c"):
        check_sequences(parameters(tiny_cohort, tmp_path, modalities="t1,t1c", withhold="flair"), tiny_cohort)
    check_sequences(parameters(tiny_cohort, tmp_path, modalities="t1,t1c", withhold="t1"), tiny_cohort)


def test_a_fold_that_there_is_not_is_refused(tiny_cohort: Cohort) -> None:
    with pytest.raises(ParameterError, match="'fold' = 5: cohort tiny has folds 0 to 4"):
        open_split(tiny_cohort, 5)


def test_a_run_is_described_and_nothing_is_written(tiny_cohort: Cohort, tmp_path: Path) -> None:
    asked = parameters(tiny_cohort, tmp_path / "runs", fold=1, experiment="night")
    folder, spec = describe_run(asked, tiny_cohort, "f" * 16, threads=3)
    assert not (tmp_path / "runs").exists()
    assert folder == tmp_path / "runs" / "night" / spec["run"]
    assert (folder / spec["cohort"]["path"]).resolve() == tiny_cohort.folder.resolve()
    assert (spec["cohort"]["fingerprint"], spec["cohort"]["cases"], spec["cohort"]["subjects"]) == ("f" * 16, 12, 12)
    assert spec["split"] == split_digest(open_split(tiny_cohort, 1)) != split_digest(open_split(tiny_cohort, 0))
    assert spec["threads"] == 3
    assert "pretrained" not in spec
    assert describe_run(asked, tiny_cohort, "0" * 16)[0] != folder, "another cohort is another run"


def test_threads_asked_for_are_those_taken(tiny_cohort: Cohort, tmp_path: Path) -> None:
    asked = parameters(tiny_cohort, tmp_path, threads=2)
    assert thread_count(asked) == describe_run(asked, tiny_cohort, "f", threads=3)[1]["threads"] == 2


def test_a_run_on_other_folds_is_refused_and_an_older_one_is_not() -> None:
    spec = {"cohort": {"name": "tiny"}, "split": "one"}
    require_same_split(Path("r"), spec, "one")
    require_same_split(Path("r"), {"cohort": {"name": "tiny"}}, "two")
    with pytest.raises(RunError, match="run r was begun on other folds: those of cohort tiny were dealt anew"):
        require_same_split(Path("r"), spec, "two")


def test_options_that_do_not_go_together_are_refused_before_there_is_a_run(tiny_cohort: Cohort, tmp_path: Path) -> None:
    given = ExperimentParameters.build(
        "masm", {"size": "demo", "cohort": str(tiny_cohort.folder), "runs": str(tmp_path / "runs"), "fusion": "early"}
    )
    with pytest.raises(ParameterError, match="set 'mixers' to none"):
        open_run(given, progress=False)
    assert not (tmp_path / "runs").exists()


def test_noise_that_would_change_nothing_is_refused(tiny_cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"'mask_noise_mm': 2 mm is less than a voxel of 3 mm"):
        experiment(tiny_cohort, tmp_path, mask_noise="eroded", mask_noise_mm=2.0)
    with pytest.raises(ParameterError, match="training shows t1 alone"):
        experiment(tiny_cohort, tmp_path, misregistration=2.0, modalities="t1,t2", withhold="t2")
    masks = {"size": "demo", "cohort": str(tiny_cohort.folder), "runs": str(tmp_path), "mask_noise": "eroded"}
    with pytest.raises(ParameterError, match="densenet121 learns from no mask"):
        open_run(ExperimentParameters.build("densenet121", masks), progress=False)


def test_noise_in_training_stands_in_the_spec_and_no_noise_does_not(tiny_cohort: Cohort, tmp_path: Path) -> None:
    noisy = experiment(tiny_cohort, tmp_path, mask_noise="eroded", misregistration=2.0).spec["parameters"]
    assert (noisy["mask_noise"], noisy["misregistration"]) == ("eroded", 2.0)
    plain = experiment(tiny_cohort, tmp_path).spec["parameters"]
    assert not {"mask_noise", "mask_noise_mm", "mask_noise_share", "misregistration", "logit_adjustment"} & set(plain)
