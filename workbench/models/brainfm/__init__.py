"""What was the module `workbench.models.brainfm` is `workbench.models.brainfm.brainfm` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
