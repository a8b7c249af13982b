"""YAML as its readers take it: a key may stand once, and only `true` and `false` are truth values.

PyYAML reads YAML 1.1, in which `no` and `off` are false, `1:30` is 90, `2026-01-01` a date and `1e-3` a text, and it keeps the
last of two equal keys without a word. Here plain scalars are those of the core schema of YAML 1.2.2, section 10.3.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_CORE = (
    ("tag:yaml.org,2002:null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2 and without doubled keys. Keys are always texts."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own way: filled below, for this class alone

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            key.tag = "tag:yaml.org,2002:str"
            if key.value in first:
                line = first[key.value].start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value}' stands here for the second time, the first is in line {line}", key.start_mark
                )
            first[key.value] = key
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read_yaml(text: str) -> Any:
    """The value of a YAML document.

    Args:
        text: one document.

    Raises:
        ValueError: it is no YAML, or a key stands twice; the message begins with the line where it is known.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        hint = " (indent with spaces, not with tabs)" if "\\t" in str(error.problem) else ""
        context = f" {error.context}" if error.context else ""
        raise ValueError(f"{where}{error.problem}{context}{hint}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    if _holds_itself(value, ()):
        raise ValueError("an alias (*name) stands inside what it is an alias of (&name)")
    return value


def _holds_itself(value: Any, above: tuple[int, ...], seen: set[int] | None = None) -> bool:
    """Whether a value contains itself; `seen`: what was looked into already, so that aliases of aliases cost nothing."""
    seen = set() if seen is None else seen
    if not isinstance(value, (list, dict)) or id(value) in seen:
        return False
    if id(value) in above:
        return True
    items = value.values() if isinstance(value, dict) else value
    if any(_holds_itself(item, (*above, id(value)), seen) for item in items):
        return True
    seen.add(id(value))
    return False
