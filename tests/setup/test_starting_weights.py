"""What a run starts from, on weights that are no weights; runs from real files are in tests/steps/test_pretraining.py."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.files import read_json, write_json
from workbench.models.pretrained.coverage import Coverage
from workbench.models.pretrained.seen import Seen, seen_cohort, subject_digest
from workbench.records.pretrained import PRETRAINED_FILE
from workbench.setup import starting_weights
from workbench.setup.run_setup import RunSetup
from workbench.setup.starting_weights import seen_by, start


class Fillable:
    """A model as far as `start` needs one: its file was trained on one subject."""

    def __init__(self, subject: str) -> None:
        self.seen = Seen()
        self.asked: list[str] = []
        self.before = Seen(cohorts=(seen_cohort("before", "f00", ("egd",), [subject]),))

    def load_pretrained(self, path: str) -> Coverage:
        self.asked.append(path)
        return Coverage(
            file="w.pt", digest="d", kind="k", title="Weights", total=2, matched=("a",), seen=self.before,
        )  # fmt: skip


@pytest.fixture
def asked(make_setup: Callable[..., RunSetup], monkeypatch: pytest.MonkeyPatch) -> RunSetup:
    """A run that is to start from a file."""
    made = make_setup()
    named: Any = SimpleNamespace(options=lambda: {"pretrained": "w.pt"}, fold=0, withheld=tuple, modality_names=tuple)
    monkeypatch.setattr(made, "parameters", named)
    return made


def test_validation_subjects_count_as_seen_and_test_subjects_as_tested(make_setup: Callable[..., RunSetup]) -> None:
    made = make_setup()
    rows = made.cases_by_split
    (own,) = seen_by(made).cohorts
    for split, counted in (("train", True), ("validation", True), ("test", False)):
        digests = {subject_digest(str(name)) for name in rows[split]["subject"]}
        assert digests
        assert (digests <= set(own.subjects)) == counted, split
        assert (set(rows[split]["subject"]) <= set(starting_weights.tested_subjects(made))) == (split == "test"), split
    assert (own.name, own.fingerprint, own.phantom) == ("tiny", made.run.spec["cohort"]["fingerprint"], True)


def test_a_run_that_names_no_file_keeps_no_account(make_setup: Callable[..., RunSetup]) -> None:
    made, model = make_setup(), Fillable("nobody")
    start(made, model)  # type: ignore[arg-type]
    assert model.asked == []
    assert not (made.run.folder / PRETRAINED_FILE).exists()
    assert model.seen == seen_by(made)


@pytest.mark.parametrize(("split", "verdict"), [("test", "contaminated"), ("train", "clean")])
def test_the_account_says_whether_the_test_is_clean(asked: RunSetup, split: str, verdict: str) -> None:
    model = Fillable(str(asked.cases_by_split[split]["subject"].iloc[0]))
    start(asked, model)  # type: ignore[arg-type]
    assert model.asked == ["w.pt"]
    document = read_json(asked.run.folder / PRETRAINED_FILE)
    assert document["contamination"]["verdict"] == verdict
    assert Seen.model_validate(document["seen"]) == model.before
    assert [cohort.name for cohort in model.seen.cohorts] == ["before", "tiny"], "what the file had, and this run's own"


def test_a_training_that_has_begun_is_not_filled_again(asked: RunSetup) -> None:
    model = Fillable("somebody")
    kept = {
        "coverage": {"file": "w.pt", "title": "Weights"},
        "report": "r",
        "contamination": {"verdict": "clean", "sentence": "s"},
    }
    write_json(asked.run.path(PRETRAINED_FILE), kept | {"seen": model.before.model_dump(mode="json")})
    asked.run.checkpoint("last").with_suffix(".safetensors").write_bytes(b"")
    start(asked, model)  # type: ignore[arg-type]
    assert model.asked == []
    assert [cohort.name for cohort in model.seen.cohorts] == ["before", "tiny"]


def test_of_several_processes_one_writes(asked: RunSetup) -> None:
    asked.main = False
    start(asked, Fillable("somebody"))  # type: ignore[arg-type]
    assert not (asked.run.folder / PRETRAINED_FILE).exists()
