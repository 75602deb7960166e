"""What every section of a recipe is made of: the base class, types of numbers, addresses without secrets.

Belongs here: types that sections of several concerns share. Not here: any section (`sections/`).
"""

from __future__ import annotations

import re
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)
from pydantic_core import PydanticCustomError

from speed_assets.domain.task_types import GROUNDED_TYPES, TASK_TYPE_NAMES

VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
RECIPE_NAME = r"^[a-z0-9][a-z0-9_-]{0,40}$"
"""Names of recipes; folders and links of a home have them, so nothing else is taken for one."""
NUMBER_MAX = 1_000_000_000
"""Maximum of every count, and of every rate or time (ours: far above any run, and small enough to compute with)."""
ROWS_MAX = 10_000_000
"""Maximum rows of a task type in one table (ours: ten times the paper's of all types together)."""


RESAMPLES_MAX = 1_000_000
"""Maximum bootstrap draws (ours: 8 MB for each task that is compared)."""
_SYSTEM_VARIABLES = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PWD",
        "OLDPWD",
        "LANG",
        "TERM",
        "TZ",
        "TMPDIR",
        "TEMP",
        "TMP",
        "HOSTNAME",
        "PYTHONPATH",
        "VIRTUAL_ENV",
    ]
)


def _no_secrets(url: str) -> str:
    """An address that may be stored and displayed. The error never repeats it."""
    try:
        parts = urlsplit(url)
        if (
            not url.isprintable()
            or " " in url
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.port == 0
        ):
            raise ValueError
    except ValueError:
        raise PydanticCustomError("endpoint", "an endpoint is an address such as https://host/v1") from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise PydanticCustomError(
            "endpoint",
            "the endpoint holds a user, a password or a query, which ledger, artifacts and releases would keep: set "
            "key_variable to the environment variable that holds the key, or teacher.dialect.headers to those of others",
        )
    return url


def _no_system_variable(name: str) -> str:
    if name in _SYSTEM_VARIABLES:
        raise PydanticCustomError(
            "variable", "a variable of the system holds no key, and its value would be sent as one"
        )
    return name


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise PydanticCustomError("encoding", "{name} is no encoding that Python knows", {"name": name[:80]}) from None
    return name


Encoding = Annotated[str, AfterValidator(_known_encoding)]
"""Name of a text encoding."""
Endpoint = Annotated[str, AfterValidator(_no_secrets)]
SecretVariable = Annotated[str, Field(pattern=VARIABLE), AfterValidator(_no_system_variable)]
"""Name of an environment variable that holds a key."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=NUMBER_MAX)]
Positive = Annotated[int, Field(ge=1, le=NUMBER_MAX)]
Rate = Annotated[float, Field(gt=0, le=NUMBER_MAX)]
Rows = Annotated[int, Field(ge=0, le=ROWS_MAX)]


_EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][+]?[0-9]{1,2}")
"""Numbers such as 1e3, which YAML 1.1 reads as texts."""


def _types_of(annotation: Any) -> set[Any]:
    """The plain types that an annotation allows."""
    if get_origin(annotation) is Annotated:
        return _types_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {found for part in get_args(annotation) for found in _types_of(part)}
    return {annotation}


class Section(BaseModel):
    """A section of a recipe. The text below a field says what it means (`field_texts.py`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    LEFT_OUT: ClassVar[tuple[str, ...]] = ()
    """Fields that a dump leaves out while they are at their default: recipes from before they existed keep their digests."""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = dump(self)
        for name in self.LEFT_OUT:
            if getattr(self, name) == type(self).model_fields[name].default:
                dumped.pop(name, None)
        return dumped

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """In a field of numbers, `1e3` is 1000, and true is no 1."""
        types = _types_of(cls.model_fields[info.field_name or ""].annotation)
        if bool in types or str in types or not {int, float} & types:
            return value
        if isinstance(value, bool):
            raise PydanticCustomError("number", "this is to be a number, not true or false")
        if isinstance(value, str) and _EXPONENT.fullmatch(value):
            number = float(value)
            return int(number) if number.is_integer() else number
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _one_text_as_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        """In a field of a list of texts, one text is a list of one."""
        types = _types_of(cls.model_fields[info.field_name or ""].annotation)
        return [value] if isinstance(value, str) and tuple[str, ...] in types and str not in types else value


class PerTaskType(Section):
    """One number of rows for each task type."""

    LEFT_OUT = GROUNDED_TYPES

    classification: Rows
    """Rows of classification: a text and its label."""
    retrieval: Rows
    """Rows of retrieval: a query and the document that answers it."""
    sts: Rows
    """Rows of STS: sentences of high and of low similarity."""
    matching_short: Rows
    """Rows of matching between short texts (a sentence or less)."""
    matching_long: Rows
    """Rows of matching between long texts (a paragraph or more)."""
    grounded: Rows = 0
    """Retrieval rows that are written from passages of `corpus`; `corpus.share` fills it in (ours)."""
    grounded_classification: Rows = 0
    """Classification rows whose text is a passage of `corpus`; `corpus.shares` fills it in (ours)."""
    grounded_sts: Rows = 0
    """STS rows whose first sentence is one of `corpus`; `corpus.shares` fills it in (ours)."""
    grounded_matching_long: Rows = 0
    """Long matching rows whose given text is a passage of `corpus`; `corpus.shares` fills it in (ours)."""

    def total(self) -> int:
        return sum(getattr(self, name) for name in TASK_TYPE_NAMES)
