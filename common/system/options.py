"""Parsing of a command's options by tyro: `--help` names what applies where an option is not given, an architecture may
have any spelling of `common.system.architectures`, and an option may have further names.
"""

import dataclasses
import inspect
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from common.system.architectures import SPELLINGS, canonical, spelled_for
from common.system.errors import UserError

ARCHITECTURE_FIELDS = ("arch", "backbone", "mode")
Options = TypeVar("Options")
_PLAIN: dict[tuple[type, str], Any] = {}
"""Annotations as they were written, by class and field."""


def parse(
    options: type[Options] | Mapping[str, type[Options]],
    *,
    prog: str,
    description: str | None,
    released: Mapping[str, str] | None = None,
    architectures: Sequence[str] = (),
    hidden: Container[str] = (),
) -> Options:
    """Parse the command line into a frozen dataclass.

    Args:
        options: a dataclass whose fields have help texts below them; or several, by subcommand.
        prog: the command as it is typed.
        description: what stands above the options.
        released: what applies where an option's default is None, by field ("100 for CUB, 9 for ILSVRC"). Others of that
            default are shown as optional.
        architectures: the command's own spellings of them, where they are not the choices of a field.
        hidden: fields that `--help` leaves out, of a dataclass that is given alone; they are parsed as ever.

    Raises:
        UserError: an architecture that this command has not, or none of the choices of an option that may be left out.
    """
    commands = list(options.values()) if isinstance(options, Mapping) else [options]
    known, leading = set(architectures), False
    for each in commands:
        _explain(each, released or {})
        known |= _choices(each)
        leading |= _begins_with_one(each)
    arguments = _own_spellings(sys.argv[1:], sorted(known), leading) if known else sys.argv[1:]
    _need_choices(commands, arguments)
    kind: Any = options
    if {"-h", "--help"} & set(arguments) and isinstance(options, type):
        kind = _shown(options, hidden)
    if isinstance(options, Mapping):
        kind = reduce(or_, (Annotated[each, tyro.conf.subcommand(name)] for name, each in options.items()))
    made: Options = tyro.cli(kind, prog=prog, description=description, args=arguments)
    return made


def also(*names: str) -> Any:
    """Annotate a field with further names of its option: an original's, or the one that all commands have for it.

    They have no prefix, in a dataclass of fields neither: `--device` beside `--runtime.device`.
    """
    return tyro.conf.arg(aliases=[f"--{name}" for name in names])


def _shown(options: type, hidden: Container[str]) -> type:
    """The dataclass without the hidden fields' help; tyro would not parse them either."""
    suppress: Any = tyro.conf.Suppress
    unseen: list[tuple[str, Any, Any]] = []
    for each in dataclasses.fields(options):
        if each.name in hidden:
            same: Any = dataclasses.field(default=each.default, default_factory=each.default_factory)
            unseen.append((each.name, suppress[each.type], same))
    return dataclasses.make_dataclass(options.__name__, unseen, bases=(options,), frozen=True)


def _choices(options: type) -> set[str]:
    """Architectures that the dataclass offers as choices, as it spells them."""
    hints = get_type_hints(options)
    words = {word for name in ARCHITECTURE_FIELDS if name in hints for word in _literals(hints[name])}
    return {word for word in words if canonical(word) in SPELLINGS}


def _need_choices(commands: Sequence[type], arguments: Sequence[str]) -> None:
    """Refuse what is none of the choices of an option that may be left out: tyro would offer None among them."""
    known: dict[str, list[str]] = {}
    for name, hint in (pair for each in commands for pair in get_type_hints(each).items()):
        words = [str(word) for kind in get_args(hint) if get_origin(kind) is Literal for word in get_args(kind)]
        if type(None) in get_args(hint):
            known.setdefault(name, []).extend(words)
    for option, value in _given(arguments):
        words = known.get(option.removeprefix("--").replace("-", "_"), [])
        if words and value not in words:
            raise UserError(f"{option} {value}", expected=f"one of {', '.join(dict.fromkeys(words))}")


def _given(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options, each with its value."""
    for text, following in pairwise([*arguments, "-"]):
        option, equals, value = text.partition("=")
        if option.startswith("--") and (equals or not following.startswith("-")):
            yield option, value if equals else following


def _begins_with_one(options: type) -> bool:
    """Whether the command line's first word that belongs to no option is an architecture."""
    first = dataclasses.fields(options)[0]
    return first.name in ARCHITECTURE_FIELDS and tyro.conf.Positional in get_args(first.type)


def _literals(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Literal:
        yield from (value for value in get_args(hint) if isinstance(value, str))
    else:
        for inner in get_args(hint):
            yield from _literals(inner)


def _own_spellings(arguments: Sequence[str], known: Sequence[str], leading: bool) -> list[str]:
    """Spell architectures as the command does: where an option that names one has a value, and, if `leading`, in the
    first word that is no option.
    """
    made: list[str] = []
    for text in arguments:
        option, equals, value = text.partition("=")
        if leading and not text.startswith("-"):
            made.append(spelled_for(known, text))
            leading = False
        elif made and not text.startswith("-"):
            made.append(_own_spelling(made[-1], text, known))
        else:
            made.append(f"{option}={_own_spelling(option, value, known)}" if equals else text)
    return made


def _own_spelling(option: str, value: str, known: Sequence[str]) -> str:
    name = option.removeprefix("--")
    if option.startswith("--") and name in ARCHITECTURE_FIELDS:
        return spelled_for(known, value)
    if option in ("--checkpoint", "--load") and value.startswith("imagenet:"):
        name = value.removeprefix("imagenet:")  # which may be one that --arch has not: of another kind of checkpoint
        same = [own for own in known if canonical(own) == canonical(name)]
        return f"imagenet:{same[0] if same and name not in known else name}"
    return value


def _is_list_that_must_be_given(field: dataclasses.Field, hint: Any) -> bool:
    without = field.default is field.default_factory is dataclasses.MISSING
    return without and get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis


def _metavar(hint: Any) -> str | None:
    """Stand-in for an optional value in `--help`: PATH for `Path | None`, the choices of a literal's."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    words = [_word(kind) for kind in kinds]
    return "|".join(filter(None, words)) if len(kinds) < len(get_args(hint)) and all(words) else None


def _word(kind: Any) -> str | None:
    if get_origin(kind) is Literal or kind is bool:
        return f"{{{','.join(map(str, get_args(kind) or (True, False)))}}}"
    parts = get_args(kind) if get_origin(kind) is tuple else (kind,)
    return " ".join(part.__name__.upper() for part in parts) if set(parts) <= {int, float, str, Path} else None


def grouped(values: Mapping[str, Any]) -> str:
    """Released values in words, each with what has it: "100 (CUB), 9 (ILSVRC, EXT ilsvrc)"; a common one alone."""
    names: dict[Any, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    if len(names) == 1:
        return str(next(iter(names)))
    return ", ".join(f"{value} ({', '.join(owners)})" for value, owners in names.items())


def _explain(options: type, released: Mapping[str, str]) -> None:
    """Give every field without a value to name a hint in place of "(default: None)", in dataclasses of fields too."""
    for field in dataclasses.fields(options):
        inner = get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        needed = _is_list_that_must_be_given(field, inner)
        if needed or field.default is None or field.default in ((), ""):
            hint = "(required)" if needed else "(optional)"
            hint = f"(default: {released[field.name]})" if field.name in released else hint
            owner = next(base for base in options.__mro__ if field.name in inspect.get_annotations(base))
            plain = _PLAIN.setdefault((owner, field.name), owner.__annotations__[field.name])
            owner.__annotations__[field.name] = Annotated[
                plain, tyro.conf.arg(help_behavior_hint=hint, metavar=_metavar(inner))
            ]
        elif isinstance(inner, type) and dataclasses.is_dataclass(inner):
            _explain(inner, released)
