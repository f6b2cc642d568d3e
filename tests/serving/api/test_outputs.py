import pytest
from pydantic import TypeAdapter, ValidationError

from serving.api.outputs import BranchOutput, Output

READ = TypeAdapter(Output).validate_python
SPAN = {"answer": "it", "score": 0.5, "start": 0, "end": 2}
FILLING = {"score": 0.5, "token": 4, "token_str": "i", "sequence": "i i"}
ARC = {"id": 1, "word": "i", "head": 0, "relation": "root", "score": 0.5}


@pytest.mark.parametrize(
    "output",
    [
        [{"label": "POS", "score": 0.5}],
        [{"label": "it", "score": 0.5, "index": 0}],
        [{"entity": "X", "score": 0.5, "index": 1, "word": "i", "start": 0, "end": 1}],
        [{"entity_group": "X", "score": 0.5, "word": "i", "start": 0, "end": 1}],
        SPAN,
        [SPAN],
        [{"start_logits": [0.5], "end_logits": [0.5], "offsets": [[0, 1]]}],
        [FILLING],
        [[FILLING], [FILLING]],
        [ARC],
        [{**ARC, "arc_logits": [0.5, 1.0], "relation_logits": [0.5]}],
        [0.5, 1.0],
        [[0.5, 1.0], [0.5, 1.0]],
    ],
    ids=lambda output: str(output)[:40],
)
def test_what_each_task_answers_is_typed_and_kept_whole(output):
    adapter = TypeAdapter(Output)
    read = adapter.validate_python(output, strict=True, extra="forbid")
    assert adapter.dump_python(read) == output
    branch = BranchOutput.model_validate({"head": "a", "output": output, "task": None}, strict=True, extra="forbid")
    assert branch.model_dump()["output"] == output


def test_anything_else_is_none_of_them():
    for output in ("text", [{"label": "POS"}], {"score": 0.5}):
        with pytest.raises(ValidationError):
            READ(output, strict=True, extra="forbid")
