"""What was the module `workbench.models.pretrained` is `workbench.models.swin.weights` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
