"""What was the module `workbench.models.swin` is `workbench.models.swin.backbone` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
