"""Progress of a run: what stands in its folder, and what a log file says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import StopRequest
from workbench.files import read_json
from workbench.records.run_folder import RunFolder
from workbench.setup.progress import PROGRESS_FILE, Progress, ReportingRecorder, follow

SPEC = {"run": "r", "method": "unet", "experiment": "e", "parameters": {}, "cohort": {"name": "demo"}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "e", SPEC)


def test_long_steps_stop_at_the_next_case(run: RunFolder) -> None:
    run.claim()
    done = []

    def predict() -> None:
        for case in Progress(run, bars=False).over("abc", "predicting", 3):
            done.append(case)
            run.request_cancel()

    with pytest.raises(StopRequest, match="run it again to resume"):
        predict()
    assert done == ["a"]
    run.set_status("completed")
    assert list(Progress(run, bars=False).over("abc", "drawing", 3)) == list("abc"), "a request that came too late stops nothing"


def test_the_recorder_says_how_far_training_is_and_keeps_what_was_found_beside_the_score(run: RunFolder) -> None:
    recorder = ReportingRecorder(run, Progress(run, bars=False), 20, lambda: {"collapse/rank": 7.0})
    recorder.scalar("train/objective", 0.5, 10)
    assert set(run.events()["name"]) == {"train/objective"}
    recorder.scalar("validation/score", 0.75, 20)
    events = run.events().set_index("name")
    assert events["step"].to_dict() == {"train/objective": 10, "validation/score": 20, "collapse/rank": 20}
    assert events.loc["collapse/rank", "value"] == 7.0
    state = read_json(run.folder / PROGRESS_FILE)
    assert state == {"activity": "training", "done": 20, "total": 20, "detail": "objective 0.500, score 0.750"}


def test_a_log_file_gets_a_line_at_the_end_of_what_was_begun(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with follow(run, progress=True):
        Progress(run, bars=False).say("predicting", 3, 3, "fold 0")
    assert capsys.readouterr().err == "unet on demo: predicting 3/3 (fold 0)\n"


def test_what_an_earlier_driver_left_is_not_shown_again(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    Progress(run, bars=False).say("predicting", 3, 3)
    with follow(run, progress=False):
        assert not (run.folder / PROGRESS_FILE).exists()
    assert capsys.readouterr().err == ""
