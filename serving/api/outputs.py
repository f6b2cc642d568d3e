"""What the tasks answer for one input, as typed JSON, with the field names of the Hugging Face Inference API."""

from pydantic import BaseModel, Field


class Score(BaseModel):
    """A label and its score."""

    label: str
    score: float


class ChoiceScore(Score):
    """A choice, its score, and its place among the choices."""

    index: int


class Entity(BaseModel):
    """The best label of one token, and the characters that the token covers."""

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int


class EntityGroup(BaseModel):
    """Neighbouring tokens with one tag, and the characters that they cover."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class SpanAnswer(BaseModel):
    """An answer, and its characters in the context."""

    answer: str
    score: float
    start: int
    end: int


class WindowLogits(BaseModel):
    """Raw logits of one window, and the characters that each token covers."""

    start_logits: list[float]
    end_logits: list[float]
    offsets: list[list[int]]


class Filling(BaseModel):
    """A token for a mask."""

    score: float
    token: int
    token_str: str
    sequence: str


class Arc(BaseModel):
    """A word (from 1), its head (0 is the root) and their relation."""

    id: int
    word: str
    head: int
    relation: str
    score: float


class ArcLogits(Arc):
    """The same with the logits that were compared: one per head, and one per relation at the head that was chosen."""

    arc_logits: list[float]
    relation_logits: list[float]


Output = (
    list[ChoiceScore]
    | list[Score]
    | list[Entity]
    | list[EntityGroup]
    | SpanAnswer
    | list[SpanAnswer]
    | list[WindowLogits]
    | list[Filling]
    | list[list[Filling]]
    | list[ArcLogits]
    | list[Arc]
    | list[float]
    | list[list[float]]
)


class BranchOutput(BaseModel):
    """What one branch of a parallel composition answers; `task` only where the branches have different ones."""

    head: str | None
    output: Output
    task: str | None = Field(default=None)
