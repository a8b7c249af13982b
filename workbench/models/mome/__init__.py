"""What was the module `workbench.models.mome` is `workbench.models.mome.mome` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
