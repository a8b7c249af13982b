"""The weights that a run starts from: loading them, keeping the account of it, judging the test, and saying what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.cohort.merge import names_in_merges
from workbench.experiments.contamination import judge
from workbench.files import write_json
from workbench.models.pretrained.seen import Seen, seen_cohort
from workbench.records.pretrained import PRETRAINED_FILE, read_pretrained_record
from workbench.training.checkpoints import has_checkpoint

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment
    from workbench.models.method import MethodModule


def start(experiment: Experiment, model: MethodModule) -> None:
    """Fill an untrained model from the file that `pretrained` names, unless training has begun; write `pretrained.json`.

    The model then knows what its weights will have seen: what the file had, and this run's training subjects.

    Raises:
        InputError: the file cannot be read or does not fit.
        ParameterError: the method takes none.
    """
    run, path = experiment.run, experiment.parameters.options().get("pretrained", "")
    if path:
        if not has_checkpoint(run.checkpoint("last")):
            coverage = model.load_pretrained(path)
            merged = names_in_merges(experiment.cohort)
            verdict = judge(coverage.seen, experiment.cohort.info, tested_subjects(experiment), merged)
            document = {
                "coverage": coverage.as_dict(),
                "report": str(coverage),
                "contamination": verdict.as_dict(),
                "seen": coverage.seen.model_dump(mode="json"),
            }
            if experiment.main:
                write_json(run.path(PRETRAINED_FILE), document)
        experiment.notes += [note for note in notes(experiment) if note not in experiment.notes]
    model.seen = seen_by(experiment)


def fallbacks(experiment: Experiment, model: MethodModule) -> list[str]:
    """What belongs beside the results where the model, or single cases, go without what the method is made for."""
    found = [f"{experiment.parameters.method}: {note}" for note in model.notes]
    if experiment.parameters.processes > 1 and any(isinstance(part, _BatchNorm) for part in model.modules()):
        found.append(
            f"trained in {experiment.parameters.processes} processes: batch normalisation takes its mean and variance from each "
            "process' own batch, and those kept for inference from the first process' batches alone"
        )
    training = experiment.cases_by_split["train"]
    held_out = pd.concat([rows for name, rows in experiment.cases_by_split.items() if name != "train"])
    withheld = experiment.parameters.withheld()
    if withheld:
        found.append(f"{', '.join(withheld)} was withheld from training and validation; the test cases show it")
    unknown = [name for name in experiment.modalities if len(training) and training[name].isna().all() and name not in withheld]
    if unknown:
        found.append(f"no training case has {' or '.join(unknown)}: nothing is learned from it")
    needs = list(model.needs)
    lacking = [int(rows[needs].isna().any(axis=1).sum()) for rows in (training, held_out)]
    if any(lacking):
        found.append(
            f"{lacking[0]} of {len(training)} training and {lacking[1]} of {len(held_out)} held-out cases lack "
            f"{' or '.join(needs)}: {model.fallback_note}"
        )
    return found


def tested_subjects(experiment: Experiment) -> list[str]:
    """Subjects whose results are reported as a test."""
    return [str(name) for split in ("test", "external") for name in experiment.cases_by_split[split]["subject"]]


def seen_by(experiment: Experiment) -> Seen:
    """What this run's weights have seen once it is trained: what they had before, and this run's training subjects, by digest.

    Validation subjects count as seen: they chose the checkpoint.
    """
    record = read_pretrained_record(experiment.run.folder)
    before = Seen() if record.document is None else Seen.model_validate(record.document["seen"])
    info = experiment.cohort.info
    subjects = [str(name) for split in ("train", "validation") for name in experiment.cases_by_split[split]["subject"]]
    merged = names_in_merges(experiment.cohort)
    fingerprint = experiment.run.spec["cohort"]["fingerprint"]
    names = [*subjects, *(merged[name] for name in subjects)]  # merged with another cohort they may go by the second one
    own = seen_cohort(info.name, fingerprint, info.collections, names, info.phantom)
    return before | Seen(cohorts=(own,))


def notes(experiment: Experiment) -> list[str]:
    """What belongs beside the results of a run that started from a file."""
    record = read_pretrained_record(experiment.run.folder)
    if record.document is None:
        return []
    _, loaded, *rest = record.document["report"].splitlines()
    return [f"Started from {record.file} ({record.title}): {'; '.join([loaded, *rest])}.", record.sentence]
