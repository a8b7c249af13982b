"""What weights have seen, as it travels inside checkpoints."""

from __future__ import annotations

from workbench.models.pretrained.seen import Seen, seen_cohort, subject_digest


def test_subjects_are_digests_in_an_order_that_tells_nothing() -> None:
    cohort = seen_cohort("here", "f00", ["egd"], ["otto", "anna", "otto"])
    assert cohort.subjects == tuple(sorted({subject_digest("anna"), subject_digest("otto")}))
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in cohort.subjects)
    assert "anna" not in cohort.model_dump_json()


def test_both_have_seen_what_either_has_and_one_unknown_makes_all_unknown() -> None:
    here = seen_cohort("here", "f00", (), ["anna"])
    first = Seen(collections=("ukb",), possible=("atlas",), cohorts=(here,))
    second = Seen(collections=("brats2021", "ukb"), cohorts=(here,), known=False)
    both = first | second
    assert both == Seen(collections=("ukb", "brats2021"), possible=("atlas",), cohorts=(here,), known=False)
    assert (first | Seen()) == first
