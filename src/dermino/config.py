"""The one way a command is configured: a typed model, a YAML recipe, ``key=value`` overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dermino.errors import UserError, nearest, unknown
from dermino.files import write_text


class Config(BaseModel):
    """A typed configuration that rejects keys it does not know."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


ConfigT = TypeVar("ConfigT", bound=Config)


def recipe_names() -> list[str]:
    """Return the names of the recipes shipped with the package."""
    folder = files("dermino.recipes")
    return sorted(
        item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")
    )


def load_config(
    model: type[ConfigT], recipe: str | Path | None = None, overrides: Iterable[str] = ()
) -> ConfigT:
    """Build a configuration from a recipe and ``key=value`` overrides, in that order.

    Parameters
    ----------
    model:
        The configuration class.
    recipe:
        The name of a shipped recipe or the path of a YAML file. None gives the defaults.
    overrides:
        ``section.key=value`` texts; the value is read as YAML.

    Raises
    ------
    UserError
        For an unknown recipe, an unknown key (with the nearest one) or a value out of range.
    """
    values = _read_recipe(recipe) if recipe is not None else {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise UserError(f"Cannot read --set '{override}'.", "Write it as key=value.")
        _assign(values, key.strip().split("."), _parse_yaml(text, f"--set {key}"))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explain(error, model, str(recipe or "--set")) from error


def save_config(config: Config, path: str | Path) -> None:
    """Write a configuration as YAML that :func:`load_config` reads back."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _read_recipe(recipe: str | Path) -> dict[str, Any]:
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if not path.is_file():
            raise UserError(f"There is no file '{path}'.", "Check the path.")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"'{path}' cannot be read: {error}.") from error
    elif str(recipe) in recipe_names():
        text = files("dermino.recipes").joinpath(f"{recipe}.yaml").read_text(encoding="utf-8")
    else:
        raise unknown("recipe", str(recipe), recipe_names())
    values = _parse_yaml(text, str(recipe))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"'{recipe}' is not a mapping.", "Write it as 'key: value'.")
    return values


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # YAML's own report spreads over five lines.
        reason = " ".join(str(error).split())
        raise UserError(f"{where} is not valid YAML: {reason}.") from error


def _assign(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UserError(f"'{key}' is a value, not a section.", "Check the dots in --set.")
        values = inner
    values[keys[-1]] = value


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> UserError:
    """Turn pydantic's report into one line a problem, with the nearest key for a misspelt one."""
    lines = []
    for problem in error.errors():
        parts = [str(part) for part in problem["loc"]]
        # pydantic also names the members of a union, such as literal['auto']: they are no keys.
        location = [part for part in parts if part.replace("_", "").isalnum()]
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            guess = nearest(location[-1], _keys(model, location[:-1]))
            hint = f" Did you mean '{'.'.join([*location[:-1], guess])}'?" if guess else ""
            lines.append(f"Unknown key '{key}'.{hint}")
        elif problem["type"] == "tuple_type":
            lines.append(f"'{key}' is a list: write {_example(model, location, problem['input'])}.")
        elif problem["type"] == "model_type":
            lines.append(f"'{key}' is a section: write {key}.KEY=VALUE.")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            # What is wrong between several values of a section says which they are.
            got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
            lines.append(f"'{key}': {reason}{got}.")
    return UserError(f"{where} cannot be used:", "\n".join(lines))


def _example(model: type[BaseModel], location: Sequence[str], value: object) -> str:
    """Write a value as the list that a key wants, with names for what is missing in it."""
    field = _keys(model, location[:-1]).get(location[-1])
    wanted = get_args(field.annotation) if field is not None else ()
    others = 0 if Ellipsis in wanted else max(len(wanted) - 1, 0)
    return f"[{', '.join([str(value), *['VALUE'] * others])}]"


def _keys(model: type[BaseModel], sections: Iterable[str]) -> Mapping[str, Any]:
    fields = model.model_fields
    for section in sections:
        if section.isdecimal():  # The place in a list of models, whose keys are at hand already.
            continue
        if section not in fields:
            return {}
        annotation = fields[section].annotation
        candidates = [annotation, *get_args(annotation)]
        nested = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not nested:
            return {}
        fields = nested[0].model_fields
    return fields


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted names, as ``--set`` has them."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found
