"""What was the module `workbench.models.mmformer` is `workbench.models.mmformer.mmformer` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
