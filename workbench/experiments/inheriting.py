"""What the run that takes another one further begins with; see `extending`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from workbench.files import atomic_path
from workbench.records.pretrained import PRETRAINED_FILE
from workbench.records.run_folder import EVENTS_FILE, RunFolder
from workbench.records.spec import EXTENDED
from workbench.training.extending import take_up

if TYPE_CHECKING:
    from workbench.experiments.experiment import Experiment


def take_up_parent(experiment: Experiment) -> None:
    """Fill the run folder of an extension with what it begins with: the parent's checkpoints, events and account of weights.

    Does nothing for other runs, and where it is done already.

    Raises:
        RunError: the parent is gone or does not fit.
    """
    run = experiment.run
    derived = run.spec.get("derived") or {}
    if derived.get("kind") != EXTENDED:
        return
    name = derived["parents"][0]
    experiment.notes.append(
        f"Extended from run {name} at step {derived['after']}: the learning rate warmed up and decayed a second time over the "
        "added steps, so this is not what a training of this length from the start would be."
    )
    if (run.folder / "checkpoints" / "last.safetensors").is_file():
        return
    parent = RunFolder.open(run.folder.parent / name)
    for file in (EVENTS_FILE, PRETRAINED_FILE):
        if (parent.folder / file).is_file():
            with atomic_path(run.path(file)) as temporary:
                shutil.copyfile(parent.folder / file, temporary)
    take_up(parent.folder / "checkpoints", run.folder / "checkpoints", experiment.training_settings())
