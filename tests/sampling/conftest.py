from __future__ import annotations

import pytest

from workbench.prepare.settings import PrepareSettings
from workbench.prepare.store import PreparedCohort, prepare_cohort


@pytest.fixture(scope="session")
def prepared(tiny_cohort, tmp_path_factory: pytest.TempPathFactory) -> PreparedCohort:
    """The tiny cohort at 4 mm: boxes of 29 x 37 x 32 voxels."""
    return prepare_cohort(tiny_cohort, PrepareSettings(spacing=4.0), folder=tmp_path_factory.mktemp("prepared"), progress=False)
