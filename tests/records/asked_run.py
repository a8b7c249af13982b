"""What a run was asked."""

from __future__ import annotations


def make_spec(**changes: object) -> dict:
    spec = {
        "run": "abc123",
        "method": "unet",
        "experiment": "demo",
        "parameters": {"seed": 0, "size": "demo"},
        "cohort": {"name": "demo", "path": "../../../cohorts/demo", "fingerprint": "f", "phantom": True},
    }
    return spec | changes
