from __future__ import annotations

from pathlib import Path

from folder_recorder import FolderRecorder


def test_last_value_per_name_and_step_counts(tmp_path: Path) -> None:
    recorder = FolderRecorder(tmp_path / "run")
    for value, step in ((1.0, 1), (2.0, 2), (0.1 + 0.2, 1)):
        recorder.scalar("train/objective", value, step)
    recorder.scalar("validation/score", float("nan"), 2)
    assert recorder.events() == {
        ("train/objective", 1): 0.1 + 0.2,
        ("train/objective", 2): 2.0,
        ("validation/score", 2): None,
    }


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    FolderRecorder(tmp_path).scalar("a", 1.0, 1)
    with (tmp_path / "events.jsonl").open("a") as handle:
        handle.write('{"name": "a", "st')
    recorder = FolderRecorder(tmp_path)
    recorder.scalar("a", 2.0, 2)
    recorder.scalar("a", 3.0, 3)
    assert recorder.events() == {("a", 1): 1.0, ("a", 2): 2.0, ("a", 3): 3.0}


def test_stop_by_file_and_checkpoint_stem(tmp_path: Path) -> None:
    recorder = FolderRecorder(tmp_path)
    assert recorder.checkpoint("last") == tmp_path / "checkpoints" / "last"
    assert not recorder.should_stop()
    (tmp_path / "cancel").touch()
    assert recorder.should_stop()
