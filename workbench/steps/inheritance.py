"""What the run that takes another one further begins with; see `extending`."""

from __future__ import annotations

import shutil

from workbench.files import atomic_path
from workbench.records.pretrained import PRETRAINED_FILE
from workbench.records.run_folder import EVENTS_FILE, RunFolder
from workbench.records.spec import EXTENDED
from workbench.setup.run_setup import RunSetup
from workbench.training.extending import take_up


def take_up_parent(setup: RunSetup) -> None:
    """Fill the run folder of an extension with what it begins with: the parent's checkpoints, events and account of weights.

    Does nothing for other runs, and where it is done already.

    Raises:
        RunError: the parent is gone or does not fit.
    """
    run = setup.run
    derived = run.spec.get("derived") or {}
    if derived.get("kind") != EXTENDED:
        return
    if (run.folder / "checkpoints" / "last.safetensors").is_file():
        return
    parent = RunFolder.open(run.folder.parent / derived["parents"][0])
    for file in (EVENTS_FILE, PRETRAINED_FILE):
        if (parent.folder / file).is_file():
            with atomic_path(run.path(file)) as temporary:
                shutil.copyfile(parent.folder / file, temporary)
    take_up(parent.folder / "checkpoints", run.folder / "checkpoints", setup.training_settings())
