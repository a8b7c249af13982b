"""What was the module `workbench.models.amaes` is `workbench.models.amaes.amaes` now: for one release."""

from workbench.moved import moved_from

__getattr__ = moved_from(__name__)
