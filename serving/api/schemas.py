"""The JSON of the data plane: what is accepted, what is answered, and what a refusal looks like.

Models are strict: an unknown member or a wrong type is a 422 with a pointer to it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, WithJsonSchema

from adapters.architectures.geometry import Geometry
from adapters.composition import BLOCKS, MAX_DEPTH, MAX_LEAVES
from serving.api.body import MAX_DEPTH as MAX_JSON_DEPTH
from serving.api.inputs import InputItem, Inputs, Member
from serving.api.outputs import BranchOutput, Output
from serving.config import Limits

TaskName = Literal[
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "fill-mask",
    "dependency-parsing",
    "sentence-embedding",
    "feature-extraction",
    "image-classification",
]
_LIST: dict[str, Any] = {"type": "array", "items": {}}
_COMPOSITION_SCHEMA: dict[str, Any] = {
    "description": "Which adapters act: a reference, the name of a target, a short form `a+b~embedding`, a list (a stack, "
    "bottom first), or a block. `fuse` takes the `name` of its fusion package, `average` may take `weights`, `split` the "
    "`splits` (lengths in tokens), `parallel` gives an answer per branch, `multi_task` one child per input "
    "(`parameters.task_ids`). Blocks may be nested. An empty list or `base` is the bare backbone. May be left out for "
    "feature extraction and sentence embedding only.",
    "anyOf": [
        {"type": "string", "examples": ["sentiment@prod", "lang-sw@prod+sentiment@3~klingon", "base"]},
        {"type": "array", "items": {}, "examples": [["lang-sw@prod", "sentiment@3"]]},
        {
            "type": "object",
            "properties": {
                **dict.fromkeys(BLOCKS, _LIST),
                "name": {"type": "string"},
                "weights": {"type": "array", "items": {"type": "number"}},
                "splits": {"type": "array", "items": {"type": "integer"}},
                "skip_layers": {"type": "array", "items": {"type": "integer"}},
            },
            "examples": [
                {"stack": ["lang-sw@prod", "sentiment@3"], "skip_layers": [0]},
                {"fuse": ["qqp", "mnli"], "name": "qqp-mnli"},
            ],
        },
        {"type": "null"},
    ],
}


class Parameters(Member):
    """How to read the inputs and word the answer; each field says for which tasks it means something.

    An explicit `"top_k": null` with `"function_to_apply": "none"` keeps the label order.
    """

    top_k: int | None = Field(
        default=None,
        ge=1,
        description="The best k: labels and choices (all, sorted, without it), answers (1, at most 100), or tokens at a "
        "mask (5, at most 1000).",
    )
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        default=None,
        description="From logits to scores; the head decides without it. `none` gives raw logits as scores; for question "
        "answering the start and end logits of every token, for dependency parsing those that were compared.",
    )
    truncate: bool = Field(default=False, description="Cut inputs that are too long; without it they are refused.")
    task_ids: list[StrictInt | StrictStr] | None = Field(
        default=None, description="multi_task: the child that acts on each input, by number from 0 or by its name."
    )
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        default=None, description="Token classification: how neighbouring tokens become entities; none leaves tokens."
    )
    ignore_labels: list[str] | None = Field(
        default=None, description='Token classification: labels to leave out; `["O"]` where tokens are aggregated.'
    )
    stride: int | None = Field(
        default=None, ge=0, description="Token classification: read long texts in windows that share so many tokens."
    )
    doc_stride: int | None = Field(
        default=None, ge=0, description="Question answering: tokens that the windows of a long context share (128)."
    )
    max_answer_len: int | None = Field(
        default=None, ge=1, description="Question answering: tokens of an answer (15, at most 1000)."
    )
    max_question_len: int | None = Field(
        default=None, ge=1, description="Question answering: cut the question to so many tokens; whole without it."
    )
    max_seq_len: int | None = Field(
        default=None, ge=1, description="Question answering: tokens of one window with its question (384)."
    )
    handle_impossible_answer: bool | None = Field(
        default=None, description="Question answering: the empty answer is an answer too."
    )
    align_to_words: bool | None = Field(
        default=None, description="Question answering: answers are whole words (true), or end where tokens do."
    )
    targets: list[str] | None = Field(
        default=None, min_length=1, description="Fill-mask: score these tokens (at most 1000) instead of the best ones."
    )
    pooling: Literal["mean", "cls", "max", "last"] | None = Field(
        default=None, description="Sentence embedding: how token vectors become one (mean)."
    )
    normalize: bool | None = Field(default=None, description="Sentence embedding: vectors of length one.")


class PredictRequest(Member):
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

    inputs: Inputs = Field(description="One or many inputs; a list of two is two inputs, never a pair.")
    adapters: Annotated[Any, WithJsonSchema(_COMPOSITION_SCHEMA)] = None
    embedding: str | None = Field(default=None, description="A token embedding, or `default` for the backbone's own.")
    head: str | None = Field(default=None, description="A package with a head; without it the last adapter's own.")
    task: TaskName | None = Field(default=None, description="What is expected; without it the head decides.")
    parameters: Parameters = Parameters()
    timeout_ms: int | None = Field(default=None, ge=1, description="Time for the whole request; see GET /v1/limits.")

    @property
    def items(self) -> list[InputItem]:
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
    """What really ran: adapters and fusions in the order written.

    `embedding` null is the backbone's own vocabulary. `heads` are all packages whose heads answered, by the order of
    the branches or tasks, without repeats; `head` is the name of the only one, and null where there is none, where there
    are several, and in parallel compositions, whose outputs name the head of each branch. `stood_for` is the published
    target by whose name all of this was asked for.
    """

    base: BaseAnswer
    adapters: list[PinnedAnswer]
    embedding: PinnedAnswer | None
    head: str | None
    heads: list[PinnedAnswer]
    stood_for: PinnedAnswer | None


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
    """The answer; `outputs` is parallel to the inputs. `task` is `parallel` where the branches have different ones."""

    id: str
    task: TaskName | Literal["parallel"]
    target: TargetAnswer
    outputs: list[Output] | list[list[BranchOutput]]
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
    retry_after: float | None = Field(description="Seconds after which to try again, where that is known.")
    errors: list[FaultAnswer]
    error: OpenAIErrorAnswer


class ProfileAnswer(BaseModel):
    """The backbone, as packages must fit it."""

    id: str
    digest: str
    geometry: Geometry
    has_pooler: bool


class LimitsAnswer(BaseModel):
    """What one request may ask for, and the backbone that answers."""

    max_inputs: int
    max_rows: int
    max_body_bytes: int
    max_input_characters: int
    max_image_bytes: int = Field(description="Of one image, as it is stored.")
    max_image_pixels: int = Field(description="Width times height of one image.")
    max_image_body_bytes: int = Field(description="Of a JSON body, where the backbone reads images.")
    max_package_bytes: int
    max_tokenizer_bytes: int
    max_tokens: int = Field(description="Of one row, special tokens and prompts included.")
    max_request_tokens: int = Field(description="Of all rows of one request together.")
    max_adapters: int = Field(description="Names in one composition.")
    max_nesting: int = Field(description="Blocks within blocks of one composition.")
    max_depth: int = Field(description="Of a JSON body: objects and lists within one another.")
    max_answer_items: int = Field(
        description="Fillings (masks x tokens), answers (windows x top_k) and labels of all inputs together."
    )
    default_timeout_ms: int
    max_timeout_ms: int
    tasks: list[TaskName]
    profile: ProfileAnswer

    @classmethod
    def of(cls, limits: Limits, profile: dict[str, Any], tasks: list[TaskName]) -> "LimitsAnswer":
        """The limits as they bind: no row is longer than the backbone allows."""
        bound = {
            **vars(limits),
            "max_tokens": row_tokens(limits, Geometry(**profile["geometry"])),
            "max_adapters": MAX_LEAVES,
            "max_nesting": MAX_DEPTH,
            "max_depth": MAX_JSON_DEPTH,
        }
        return cls(**bound, tasks=tasks, profile=ProfileAnswer(**profile))


def row_tokens(limits: Limits, geometry: Geometry) -> int:
    """The most tokens of a row; every image has as many as the backbone makes of it."""
    return geometry.max_tokens if geometry.image else min(limits.max_tokens, geometry.max_tokens)


class HealthAnswer(BaseModel):
    """What a probe is told when all is well; everything else is a problem."""

    status: Literal["ok"] = "ok"
