"""Facts of the classical baselines, radiomics, age, volumes and place: card, options, sizes. No torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workbench.contracts import MARKER_TASK
from workbench.models.method_facts import MethodFacts, ModelCard
from workbench.models.options_base import MethodOptions


class RadiomicsOptions(MethodOptions):
    """`radiomics`: features of the tumour and a scikit-learn classifier; age alone, and volumes and place, always beside it."""

    classifier: Literal["logistic", "forest", "svm", "age_only", "volumes_and_place"] = Field(
        "logistic",
        description="logistic regression, random forest, support vector machine, or logistic regression on age alone, or on the "
        "tumour's volumes and place",
    )
    mask_source: Literal["truth", "predicted", "brain"] = Field(
        "truth",
        description="held-out cases are measured in their reference mask (an upper bound), in the mask that the run mask_run "
        "predicted, or in the whole brain; training cases in their reference mask, or in the brain",
    )
    mask_run: str = Field("", description="run whose predicted masks are used, as workbench runs lists it: experiment/run")
    with_age: bool = Field(False, description="give age and sex to the classifier, beside the image features")
    texture: bool = Field(True, description="measure co-occurrence and size-zone texture")
    inner_folds: int = Field(5, ge=2, le=20, description="folds of the training cases by which hyper-parameters are chosen")


FACTS = (
    MethodFacts(
        card=ModelCard(
            name="radiomics", title="Radiomics and age baselines",
            paper="Zwanenburg et al., Radiology 2020 (IBSI); scikit-learn", tasks=(MARKER_TASK,), modalities=(), network=False,
        ),
        options=RadiomicsOptions,
        demo={"inner_folds": 3},
    ),
)  # fmt: skip
