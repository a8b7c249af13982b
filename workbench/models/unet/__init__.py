from workbench.moved import moved_from

__getattr__ = moved_from(__name__)  # this package was a module: for one release
