"""The base of every JSON body and query: a member that it does not know is refused, with the names of those that it does."""

from difflib import get_close_matches
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

_UNKNOWN = "extra_forbidden"
_COMPARED_CHARACTERS = 40  # a made-up name may be as long as a body


class Strict(BaseModel):
    """A body or query in which unknown members are refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _naming_the_members(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """pydantic says of an unknown member that it is not permitted, and not which ones are."""
        try:
            return handler(value)
        except ValidationError as error:
            faults = error.errors(include_url=False)
            if not any(_unknown(fault) for fault in faults):
                raise
            told = [_worded(fault, list(cls.model_fields)) for fault in faults]
            raise ValidationError.from_exception_data(cls.__name__, told) from error


def _unknown(fault: ErrorDetails) -> bool:
    return fault["type"] == _UNKNOWN and len(fault["loc"]) == 1  # a deeper one is told by its own model


def _worded(fault: ErrorDetails, members: list[str]) -> InitErrorDetails:
    message = fault["msg"]
    if _unknown(fault):
        near = get_close_matches(str(fault["loc"][0])[:_COMPARED_CHARACTERS], members, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        message = f"no such member; {hint}the members are {', '.join(members)}"
    kind = PydanticCustomError(fault["type"], message)
    return InitErrorDetails(type=kind, loc=fault["loc"], input=fault["input"])
