"""The weights that a run starts from: loading them, keeping the account of it, judging the test, and what was seen."""

from __future__ import annotations

from workbench.cohort.merge import names_in_merges
from workbench.contracts import JUDGED
from workbench.files import write_json
from workbench.models.method import MethodModule
from workbench.models.pretrained.seen import Seen, seen_cohort
from workbench.records.pretrained import PRETRAINED_FILE, read_pretrained_record
from workbench.setup.contamination import judge
from workbench.setup.run_setup import RunSetup
from workbench.training.checkpoints import has_checkpoint


def start(setup: RunSetup, model: MethodModule) -> None:
    """Fill an untrained model from the file that `pretrained` names, unless training has begun; write `pretrained.json`.

    The model then knows what its weights will have seen: what the file had, and this run's training subjects.

    Raises:
        InputError: the file cannot be read or does not fit.
        ParameterError: the method takes none.
    """
    run, path = setup.run, setup.parameters.options().get("pretrained", "")
    if path and not has_checkpoint(run.checkpoint("last")):
        coverage = model.load_pretrained(path)
        verdict = judge(coverage.seen, setup.cohort.info, tested_subjects(setup), names_in_merges(setup.cohort))
        document = {
            "coverage": coverage.as_dict(),
            "report": str(coverage),
            "contamination": verdict.as_dict(),
            "seen": coverage.seen.model_dump(mode="json"),
        }
        if setup.main:
            write_json(run.path(PRETRAINED_FILE), document)
    model.seen = seen_by(setup)


def tested_subjects(setup: RunSetup) -> list[str]:
    """Subjects whose results are reported as a test."""
    return [str(name) for split in JUDGED for name in setup.cases_by_split[split]["subject"]]


def seen_by(setup: RunSetup) -> Seen:
    """What this run's weights have seen once it is trained: what they had before, and this run's training subjects, by digest.

    Validation subjects count as seen: they chose the checkpoint.
    """
    record = read_pretrained_record(setup.run.folder)
    before = Seen() if record.document is None else Seen.model_validate(record.document["seen"])
    info = setup.cohort.info
    subjects = [str(name) for split in ("train", "validation") for name in setup.cases_by_split[split]["subject"]]
    merged = names_in_merges(setup.cohort)
    fingerprint = setup.run.spec["cohort"]["fingerprint"]
    names = [*subjects, *(merged[name] for name in subjects)]  # merged with another cohort they may go by the second one
    own = seen_cohort(info.name, fingerprint, info.collections, names, info.phantom)
    return before | Seen(cohorts=(own,))
