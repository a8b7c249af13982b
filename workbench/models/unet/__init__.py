"""What was the module `workbench.models.unet` is `workbench.models.unet.unet` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
