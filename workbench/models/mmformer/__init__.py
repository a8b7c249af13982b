"""What was the module `workbench.models.mmformer` is `workbench.models.mmformer.mmformer` now: for one release."""

from typing import TYPE_CHECKING

from workbench.moved import moved_from

if not TYPE_CHECKING:
    __getattr__ = moved_from(__name__)
