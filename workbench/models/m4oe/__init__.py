"""What was the module `workbench.models.m4oe` is `workbench.models.m4oe.m4oe` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
