"""What was the module `workbench.models.brainfm` is `workbench.models.brainfm.brainfm` now: for one release."""

from typing import TYPE_CHECKING

from workbench.moved import moved_from

if not TYPE_CHECKING:
    __getattr__ = moved_from(__name__)
