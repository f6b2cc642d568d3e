"""The JSON of the data plane: what is accepted, what is answered, and what a refusal looks like.

Models are strict: an unknown member or a wrong type is a 422 with a pointer to it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from adapters.composition import BLOCKS
from serving.config import Limits

TaskName = Literal["text-classification", "token-classification", "feature-extraction"]
_COMPOSITION_SCHEMA: dict[str, Any] = {
    "description": "Which adapters act: a reference or a short target `a+b~embedding`, a list (a stack, bottom first), "
    "or an object. An empty list or `base` is the bare backbone. May be left out for feature extraction only.",
    "anyOf": [
        {"type": "string", "examples": ["sentiment@prod", "lang-sw@prod+sentiment@3~klingon", "base"]},
        {"type": "array", "items": {}, "examples": [["lang-sw@prod", "sentiment@3"]]},
        {
            "type": "object",
            "properties": {
                **{name: {"type": "array", "items": {}} for name in BLOCKS},
                "skip_layers": {"type": "array", "items": {"type": "integer"}},
            },
            "examples": [{"stack": ["lang-sw@prod", "sentiment@3"], "skip_layers": [0]}],
        },
        {"type": "null"},
    ],
}


class Strict(BaseModel):
    """A request member: nothing unknown, nothing coerced, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TextInput(Strict):
    """A text, and the second text of a pair."""

    text: str
    text_pair: str | None = None


def _form(value: object) -> str | None:
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict | TextInput):
        return "object"
    return "list" if isinstance(value, list) else None


_Item = Annotated[
    Annotated[str, Tag("text")] | Annotated[TextInput, Tag("object")],
    Discriminator(
        _form,
        custom_error_type="wrong_input",
        custom_error_message="an input is a string or an object {text, text_pair}",
    ),
]
_Inputs = Annotated[
    Annotated[str, Tag("text")] | Annotated[TextInput, Tag("object")] | Annotated[list[_Item], Tag("list")],
    Discriminator(
        _form,
        custom_error_type="wrong_input",
        custom_error_message="inputs is a string, an object {text, text_pair} or a list of them",
    ),
]


class Parameters(Strict):
    """How to word the answer. An explicit `"top_k": null` with `"function_to_apply": "none"` keeps the label order."""

    top_k: int | None = Field(default=None, ge=1, description="The best k labels; all, sorted, without it.")
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        default=None, description="From logits to scores; the head's problem type decides without it."
    )
    truncate: bool = Field(default=False, description="Cut inputs that are too long; without it they are refused.")


class PredictRequest(Strict):
    """One request: inputs, and the adapters, vocabulary and head that answer them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "inputs": ["I love it", {"text": "a", "text_pair": "b"}],
                    "adapters": ["lang-sw@prod", "sentiment@3"],
                    "parameters": {"top_k": 2},
                    "timeout_ms": 800,
                }
            ]
        }
    )

    inputs: _Inputs = Field(description="One or many inputs; a list of two is two inputs, never a pair.")
    adapters: Annotated[Any, WithJsonSchema(_COMPOSITION_SCHEMA)] = None
    embedding: str | None = Field(default=None, description="A token embedding, or `default` for the backbone's own.")
    head: str | None = Field(default=None, description="A package with a head; without it the top adapter's own.")
    task: TaskName | None = Field(default=None, description="What is expected; without it the head decides.")
    parameters: Parameters = Parameters()
    timeout_ms: int | None = Field(default=None, ge=1, description="Time for the whole request; see GET /v1/limits.")

    @property
    def items(self) -> list[str | TextInput]:
        """The inputs as a list."""
        return self.inputs if isinstance(self.inputs, list) else [self.inputs]

    def pointer(self, index: int) -> str:
        """The JSON pointer of one input."""
        return f"/inputs/{index}" if isinstance(self.inputs, list) else "/inputs"


class PinnedAnswer(BaseModel):
    """A name, and what it was pinned to when the request came."""

    name: str
    version: int
    digest: str
    resolved_from: str | None = Field(
        description="The alias that led here; null for a version, a digest or the newest."
    )


class BaseAnswer(BaseModel):
    """The backbone."""

    id: str
    digest: str


class TargetAnswer(BaseModel):
    """What really ran. `embedding` null is the backbone's own vocabulary."""

    base: BaseAnswer
    adapters: list[PinnedAnswer]
    embedding: PinnedAnswer | None
    head: str | None


class Score(BaseModel):
    """A label and its score."""

    label: str
    score: float


class Entity(BaseModel):
    """The best label of one token, and the characters that the token covers."""

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int


class UsageAnswer(BaseModel):
    """Tokens that ran, special ones included, and which inputs were cut."""

    prompt_tokens: int
    truncated: list[bool]


class TimingAnswer(BaseModel):
    """Milliseconds; queue, load and forward are those of the slowest input."""

    queue: float
    load: float
    tokenize: float
    forward: float
    total: float


class PredictAnswer(BaseModel):
    """The answer; `outputs` is parallel to the inputs."""

    id: str
    task: TaskName
    target: TargetAnswer
    outputs: list[list[Score]] | list[list[Entity]] | list[list[list[float]]]
    usage: UsageAnswer
    timing_ms: TimingAnswer
    residency: dict[str, str] = Field(description='Where each package was found: "device", "host" or "disk".')
    replica: str


class FaultAnswer(BaseModel):
    """One reason, and where in the body it lies."""

    pointer: str
    detail: str


class OpenAIErrorAnswer(BaseModel):
    """The same refusal as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str


class ProblemAnswer(BaseModel):
    """RFC 9457, with a stable `code`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FaultAnswer]
    error: OpenAIErrorAnswer


class GeometryAnswer(BaseModel):
    """The backbone's sizes."""

    model_type: str
    hidden_size: int
    embedding_size: int
    intermediate_size: int
    layers: int
    heads: int
    vocabulary: int
    max_tokens: int
    type_vocabulary: int
    pad_token_id: int


class ProfileAnswer(BaseModel):
    """The backbone, as packages must fit it."""

    id: str
    digest: str
    geometry: GeometryAnswer
    has_pooler: bool


class LimitsAnswer(BaseModel):
    """What one request may ask for, and the backbone that answers."""

    max_inputs: int
    max_body_bytes: int
    max_input_characters: int
    max_package_bytes: int
    max_tokens: int
    default_timeout_ms: int
    max_timeout_ms: int
    tasks: list[TaskName]
    profile: ProfileAnswer

    @classmethod
    def of(cls, limits: Limits, profile: dict[str, Any], tasks: list[TaskName]) -> "LimitsAnswer":
        """The limits as they bind: no row is longer than the backbone allows."""
        bound = {**vars(limits), "max_tokens": min(limits.max_tokens, profile["geometry"]["max_tokens"])}
        return cls(**bound, tasks=tasks, profile=ProfileAnswer(**profile))


class HealthAnswer(BaseModel):
    """What a probe is told when all is well; everything else is a problem."""

    status: Literal["ok"] = "ok"
