"""A command's options, parsed by tyro; `--help` names what applies where an option is not given."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args, get_origin

import tyro

Options = TypeVar("Options")
_PLAIN: dict[tuple[type, str], Any] = {}
"""Annotations as they were written, by class and field."""


def parse(
    options: type[Options], *, prog: str, description: str | None, released: Mapping[str, str] | None = None
) -> Options:
    """Parse the command line into a frozen dataclass.

    Args:
        options: a dataclass whose fields have help texts below them.
        prog: the command as it is typed.
        description: what stands above the options.
        released: what applies where an option's default is None, by field ("100 for CUB, 9 for ILSVRC"). Others of that
            default are shown as optional.
    """
    _explain(options, released or {})
    return tyro.cli(options, prog=prog, description=description)


def grouped(values: Mapping[str, Any]) -> str:
    """Released values in words, each with what has it: "100 (CUB), 9 (ILSVRC, EXT ilsvrc)"; a common one alone."""
    names: dict[Any, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    if len(names) == 1:
        return str(next(iter(names)))
    return ", ".join(f"{value} ({', '.join(owners)})" for value, owners in names.items())


def _explain(options: type, released: Mapping[str, str]) -> None:
    """Give every field whose default is None a hint in place of "(default: None)", in dataclasses of fields too."""
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        inner = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        if field.default is None:
            hint = f"(default: {released[field.name]})" if field.name in released else "(optional)"
            owner = next(base for base in options.__mro__ if field.name in inspect.get_annotations(base))
            plain = _PLAIN.setdefault((owner, field.name), owner.__annotations__[field.name])
            owner.__annotations__[field.name] = Annotated[plain, tyro.conf.arg(help_behavior_hint=hint)]
        elif isinstance(inner, type) and dataclasses.is_dataclass(inner):
            _explain(inner, released)
