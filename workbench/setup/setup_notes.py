"""What of a run's setup belongs beside its results: cases and markers left out, and what the model goes without."""

from __future__ import annotations

import pandas as pd
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.models.method import MethodModule
from workbench.records.pretrained import read_pretrained_record
from workbench.records.spec import EXTENDED
from workbench.sampling.corruption import is_noisy
from workbench.setup.run_setup import RunSetup


def note_setup(setup: RunSetup) -> None:
    """Add to the run's notes what its setup leaves out or goes without; what is noted already is not repeated.

    Called when training begins, after the weights were filled from a file: `training.json` keeps the notes.
    """
    found = [
        *extension_notes(setup),
        *corruption_notes(setup),
        *case_notes(setup),
        *marker_notes(setup),
        *_model_notes(setup),
        *_started_from(setup),
    ]
    setup.notes += [note for note in dict.fromkeys(found) if note not in setup.notes]


def extension_notes(setup: RunSetup) -> list[str]:
    """Of a run that takes another one further: that its learning rate rose and fell twice."""
    derived = setup.run.spec.get("derived") or {}
    if derived.get("kind") != EXTENDED:
        return []
    return [
        f"Extended from run {derived['parents'][0]} at step {derived['after']}: the learning rate warmed up and decayed a second "
        "time over the added steps, so this is not what a training of this length from the start would be."
    ]


def corruption_notes(setup: RunSetup) -> list[str]:
    """Of a run that trains on masks or sequences that are wrong on purpose: how, and that nothing else is."""
    p, found = setup.parameters, []
    clean = "validation and test cases are clean"
    if p.mask_noise == "dropped":
        found.append(f"trained on noisy masks: each lesion is missing with a chance of {p.mask_noise_share:g}; {clean}")
    elif p.mask_noise != "none":
        masked = setup.training_cases.loc[setup.training_cases["segmentation"].notna(), "case"]
        noisy = sum(is_noisy(p.seed, str(case), p.mask_noise_share) for case in masked)
        how = f"{p.mask_noise} by {p.mask_noise_mm:g} mm in {noisy} of {len(masked)} training cases"
        found.append(f"trained on noisy masks: {how}; {clean}")
    if p.misregistration:
        how = f"each but the first that a case shows lies {p.misregistration:g} mm aside"
        found.append(f"trained on misregistered sequences: {how}; {clean}")
    return found


def case_notes(setup: RunSetup) -> list[str]:
    """The cases that are left out."""
    left_out, withheld = setup.cohort.cases.loc[~setup.usable, "case"], setup.parameters.withheld()
    if left_out.empty:
        return []
    hidden = f" (withheld from training and validation: {', '.join(withheld)})" if withheld else ""
    return [
        f"{len(left_out)} cases have none of {'/'.join(setup.modalities)} to show and are left out{hidden}: "
        f"{', '.join(left_out.head(5))}"
    ]


def marker_notes(setup: RunSetup) -> list[str]:
    """The markers that were asked for and cannot be learned."""
    found = []
    for name in setup.parameters.marker_names():
        if name not in setup.markers:
            known = setup.told_apart(name, setup.training_cases)
            shown = "is known for no training case" if known.empty else f"is {known.iloc[0]} in every training case"
            found.append(f"marker '{name}' {shown}: it cannot be learned and is left out")
    return found


def _model_notes(setup: RunSetup) -> list[str]:
    p, found = setup.parameters, []
    if p.oversample and not setup.oversampled:
        found.append(f"oversample={p.oversample} changes nothing: this run learns no marker of that name")
    found += fallback_notes(setup, setup.network)
    if not setup.segments and p.sampling != "whole":
        found.append(
            f"sampling={p.sampling}: without a segmentation, held-out cases are read in a crop around the "
            "brain's centre, which is not what the network was trained on; sampling=whole is the fair choice"
        )
    return found


def fallback_notes(setup: RunSetup, model: MethodModule) -> list[str]:
    """What belongs beside the results where the model, or single cases, go without what the method is made for."""
    found = [f"{setup.parameters.method}: {note}" for note in model.notes]
    if setup.parameters.processes > 1 and any(isinstance(part, _BatchNorm) for part in model.modules()):
        found.append(
            f"trained in {setup.parameters.processes} processes: batch normalisation takes its mean and variance from each "
            "process' own batch, and those kept for inference from the first process' batches alone"
        )
    training = setup.cases_by_split["train"]
    held_out = pd.concat([rows for name, rows in setup.cases_by_split.items() if name != "train"])
    withheld = setup.parameters.withheld()
    if withheld:
        found.append(f"{', '.join(withheld)} was withheld from training and validation; the test cases show it")
    unknown = [name for name in setup.modalities if len(training) and training[name].isna().all() and name not in withheld]
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


def _started_from(setup: RunSetup) -> list[str]:
    """Of a run that started from a file: what it was, and whom it had seen."""
    record = read_pretrained_record(setup.run.folder)
    if record.document is None:
        return []
    _, loaded, *rest = record.document["report"].splitlines()
    return [f"Started from {record.file} ({record.title}): {'; '.join([loaded, *rest])}.", record.sentence]
