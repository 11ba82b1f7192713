"""From the JSON values of a job to options, with a clear word about every name and value that does not fit."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from .errors import InputError

T = TypeVar("T")


def options_from(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """Builds an options dataclass from JSON values.

    Args:
        kind: The dataclass.
        values: Fields that differ from their defaults.
        what: What has these options, for the message, such as "the verb train".

    Raises:
        InputError: An option has a name nobody knows, or a value that does not fit.
    """
    known = [entry.name for entry in fields(kind)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{_upper(what)} has no option {', '.join(unknown)}.", hint=f"It has {', '.join(sorted(known))}.")
    wanted = typing.get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, wanted[name]):
            raise InputError(
                f"The option {name} of {what} does not fit: expected {_words(wanted[name])}, found {value!r}.",
                hint="`semiseg describe` lists every option.",
            )
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"The options of {what} do not fit: {error}.", hint="`semiseg describe` lists every option.") from error


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a JSON value can be what an annotation says; an integer may stand for a number, nothing else is converted."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            return False
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        return len(each) == len(value) and all(_fits(one, kind) for one, kind in zip(value, each))
    if origin is dict or wanted is dict:
        return isinstance(value, dict)
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted in (str, bool, list):
        return isinstance(value, wanted)
    return value is None if wanted is type(None) else True


def _words(wanted: Any) -> str:
    if wanted is type(None):
        return "nothing"
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in inner)
    if origin in (list, tuple):
        return "a list"
    if origin is dict:
        return "a group of options"
    return {int: "an integer", float: "a number", str: "a text", bool: "true or false", dict: "a group of options"}.get(wanted, str(wanted))


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
