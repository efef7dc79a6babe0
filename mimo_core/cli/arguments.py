"""The command line and the YAML file of a job, both made from the job's one configuration class."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mimo_core.errors import UsageError
from mimo_core.wording import count, invalid_option, option

C = TypeVar("C", bound=BaseModel)
METAVARS = {
    **dict.fromkeys(("weights", "init", "fid_weights", "to", "vacc_python"), "FILE"),
    **dict.fromkeys(("reference", "restored", "validation", "images"), "FOLDER"),
    **dict.fromkeys(("size", "tile"), "HxW"),
    **dict.fromkeys(("workers", "batch", "max_failed", "tolerate", "depths", "batches"), "N"),
    "data": "PATH",
    "include": "GLOB",
    "worker_label": "LABEL",
    "model": "VARIANT",
    "engine": "NAME",
    "device": "DEVICE",
    "scales": "SCALES",
    "metrics": "NAMES",
    "strengths": "NUMBERS",
}
"""What stands for the value of an option that takes neither a number nor one of a few words."""

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


def parse(config: type[C], argv: Sequence[str], program: str) -> C:
    """Return the configuration that the command line asks for, over the values of `--config FILE.yaml`.

    Required fields are positional arguments, and those that the class names in `POSITIONAL`; the others are options of
    the same name with dashes.

    Raises:
        UsageError: a value, an option or the file is wrong; the message names it.
        SystemExit: `--help` was asked for (0), or argparse refused the command line (2).
    """
    # Arguments and options in any order.
    namespace, unknown = parser_of(config, program).parse_known_intermixed_args(argv)
    if unknown:
        raise UsageError(_unknown(unknown, config))
    given = vars(namespace)
    file = given.pop("config", None)
    values = {**(_read_yaml(file, config) if file else {}), **given}
    try:
        return config(**values)
    except ValidationError as error:
        told = "; ".join(_explain(one, config) for one in error.errors())
        missing = any(one["type"] == "missing" for one in error.errors())
        raise UsageError(f"{told}; usage: {_usage(config, program)}" if missing else told) from error


def parser_of(config: type[BaseModel], program: str) -> argparse.ArgumentParser:
    """Return the parser of a job's command line: its arguments and options, in groups, with examples below them."""
    examples = [f"  {program} {line}" for line in getattr(config, "EXAMPLES", ())]
    width = max(40, shutil.get_terminal_size().columns - 2)
    parser = argparse.ArgumentParser(
        prog=program,
        usage=_usage(config, program),
        description="\n\n".join(textwrap.fill(" ".join(one.split()), width) for one in _paragraphs(config)),
        epilog="\n".join(["examples:", *examples]) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    arguments = parser.add_argument_group("arguments")
    titles: dict[str, tuple[str, ...]] = getattr(config, "GROUPS", {})
    groups = {title: parser.add_argument_group(title) for title in titles}
    others = parser.add_argument_group("options")
    home = {name: groups[title] for title, names in titles.items() for name in names}
    for name, field in config.model_fields.items():
        if _positional(config, name):
            # Optional for argparse, because the YAML file may hold it; the configuration class insists on it.
            several = get_origin(_without_none(field.annotation)) is tuple
            arguments.add_argument(name, metavar=name.upper(), nargs="*" if several else "?", help=field.description)
        else:
            _add_option(home.get(name, others), name, field)
    others.add_argument("-h", "--help", action="help", help="show this text, and end")
    others.add_argument("--config", metavar="FILE.yaml", help="read options from this file; the command line wins")
    return parser


def _paragraphs(config: type[BaseModel]) -> list[str]:
    return (config.__doc__ or "").split("\n\n")


def _usage(config: type[BaseModel], program: str) -> str:
    """Return how the job is called: what it must be given, and that there is more."""
    words = []
    for name, field in config.model_fields.items():
        if _positional(config, name):
            several = get_origin(_without_none(field.annotation)) is tuple
            word = f"{name.upper()} ..." if several else name.upper()
            words.append(word if field.is_required() else f"[{word}]")
    return " ".join([program, *words, "[options]"])


def _add_option(parser: argparse._ActionsContainer, name: str, field: FieldInfo) -> None:
    kind = _without_none(field.annotation)
    add = partial(parser.add_argument, option(name), dest=name)
    if kind is bool:
        add(action=argparse.BooleanOptionalAction, help=field.description)
    elif get_origin(kind) is tuple:
        add(action="append", metavar=METAVARS.get(name, "VALUE"), help=f"{field.description}")
    elif get_origin(kind) is Literal:
        shown = "|".join(map(str, get_args(kind)))
        default = f" (default: {field.default})" if field.default is not None else ""
        add(metavar=shown, help=f"{field.description}{default}")
    else:
        metavar = "N" if kind in (int, float) else METAVARS.get(name, "VALUE")
        default = f" (default: {field.default})" if field.default not in (None, "") else ""
        add(metavar=metavar, help=f"{field.description}{default}")


def _positional(config: type[BaseModel], name: str) -> bool:
    return config.model_fields[name].is_required() or name in getattr(config, "POSITIONAL", ())


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(one for one in get_args(annotation) if one is not type(None))
    return annotation


class _Loader(yaml.SafeLoader):
    """YAML without base 60: there `workers: 1:8` would be the number 68."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - a class attribute of the parent
        letter: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT)]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?$"), list("-+0123456789"))


def load_yaml(file: str, name: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Args:
        file: its path.
        name: what messages call it.

    Raises:
        UsageError: it cannot be read, is not YAML, or holds no mapping.
    """
    try:
        document = yaml.load(Path(file).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{name}: expected names with values, such as `workers: 4`")
    return document


def _read_yaml(file: str, config: type[BaseModel]) -> dict[str, Any]:
    document = load_yaml(file, f"--config {file}")
    fields = {option(name): name for name in config.model_fields}
    values = {fields.get(option(str(name)), str(name).replace("-", "_")): value for name, value in document.items()}
    unknown = sorted(set(values) - set(config.model_fields))
    if unknown:
        raise UsageError(
            f"--config {file}: no option is named {', '.join(map(option, unknown))}{_near(unknown, config)}"
        )
    for name, value in values.items():
        if isinstance(value, str) and get_origin(_without_none(config.model_fields[name].annotation)) is tuple:
            values[name] = [value]
    return values


def _unknown(arguments: Sequence[str], config: type[BaseModel]) -> str:
    """Return in words what is wrong with arguments that nothing takes."""
    options = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    if options:
        names = [name.lstrip("-").replace("-", "_") for name in options]
        return f"no option is named {', '.join(options)}{_near(names, config) or '; --help lists them'}"
    wanted = " ".join(name.upper() for name in config.model_fields if _positional(config, name))
    shown = " ".join(arguments[:3]) + (" ..." if len(arguments) > 3 else "")
    return f"expected {wanted} and found {count(len(arguments), 'argument')} more: {shown}; was the glob quoted?"


def _near(unknown: Sequence[str], config: type[BaseModel]) -> str:
    near = [match for name in unknown for match in get_close_matches(name, config.model_fields, n=1)]
    return f"; did you mean {', '.join(map(option, near))}?" if near else ""


def _explain(error: Any, config: type[BaseModel]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    argument = name not in config.model_fields or _positional(config, name)
    return invalid_option(error, name.upper() if argument else option(name))
