"""What a value that stands without quotes is: as YAML 1.2 has it, and an error where YAML 1.1 would read another one.

`010` is eight to some readers and ten to others; `no` is false to some and a word to others. Times (`1:30`) and dates are
text to us, whatever YAML 1.1 makes of them.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

__all__ = ["WORD", "ScalarLoader", "ambiguous_word", "scalar"]

#: The tag of what is true or false in YAML 1.1, and text in YAML 1.2.
WORD: Final = "tag:luthien,word"
_AMBIGUOUS: Final = "tag:luthien,ambiguous"
_KINDS: Final = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE"),
    (WORD, r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)|0x[0-9a-fA-F]+"),
    (_AMBIGUOUS, r"[-+]?(0[0-9_]+|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)"),
    ("tag:yaml.org,2002:float", r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ("tag:yaml.org,2002:float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
)


class ScalarLoader(yaml.SafeLoader):
    """Knows these kinds and no others; neither does it merge (`<<`)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 -- as declared there


for _tag, _spelled in _KINDS:
    ScalarLoader.add_implicit_resolver(_tag, re.compile(rf"(?:{_spelled})\Z"), None)


def _refused(loader: ScalarLoader, node: yaml.Node) -> Any:
    raise yaml.MarkedYAMLError(
        problem="numbers that begin with 0 are read in two ways: write a decimal one without it, or quote it",
        problem_mark=node.start_mark,
    )


ScalarLoader.add_constructor(_AMBIGUOUS, _refused)
ScalarLoader.add_constructor(WORD, lambda _, node: node.value)


def scalar(text: str) -> Any:
    """What `text` is where it stands without quotes. Raises YAMLError for what is ambiguous."""
    loader: Any = ScalarLoader("")
    node = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text)
    if node.tag == WORD:
        raise ambiguous_word(node)
    return loader.construct_document(node)


def ambiguous_word(node: yaml.Node) -> yaml.YAMLError:
    """Why such a word is refused where no setting's type says which of the two is meant."""
    truth = "true" if node.value.lower() in ("yes", "on") else "false"
    return yaml.MarkedYAMLError(
        problem=f"{node.value} is a word to some who read YAML, and {truth} to others: write {truth}, or quote it",
        problem_mark=node.start_mark,
    )
