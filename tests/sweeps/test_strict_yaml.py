"""YAML read strictly: what looks like a text is one, and no key stands twice."""

from __future__ import annotations

import math

import pytest

from workbench.sweeps.strict_yaml import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("none", "none"), ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"), ("1_000", "1_000"), ("t1,t1c", "t1,t1c"), ("'1'", "1"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("010", 10), ("0x10", 16), ("0o10", 8), ("-1", -1), ("+2", 2),
        ("1e-3", 0.001), ("1E3", 1000.0), ("1.0e-3", 0.001), (".5", 0.5), ("2.", 2.0), ("-.inf", -math.inf),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = read_yaml(f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert read_yaml("no: 1\n2: 2\ntrue: 3\n1e3: 4\n") == {"no": 1, "2": 2, "true": 3, "1e3": 4}


def test_values_of_an_anchor_may_be_overridden() -> None:
    assert read_yaml("a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}\n")["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3: key 'a' stands here for the second time, the first is in line 1"),
        ("a:\n  x: {k: 1, k: 2}\n", r"line 2: key 'k' stands here for the second time"),
        ("1: a\n'1': b\n", "second time"),
        ("a:\n\t- b\n", "line 2.*spaces, not with tabs"),
        ("a: [1, 2\n", "expected ',' or '\\]'"),
        ("a: b: c\n", "line 1: mapping values are not allowed here"),
        ("a: *nowhere\n", "undefined alias 'nowhere'"),
        ("? [a]\n: b\n", "a key must be a text"),
        ("--- 1\n--- 2\n", "another document"),
        ("a: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
        ("a: !!int three\n", "three"),
        ("a: " + "[" * 1000, "recursion"),
        ("a: \x00\n", "special characters"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_yaml(text)
