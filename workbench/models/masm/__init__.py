"""What was the module `workbench.models.masm` is `workbench.models.masm.masm` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
