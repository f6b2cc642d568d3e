"""One input's output in a line, for every task; whole rows of numbers are counted, and `--json` prints them."""

import json
from collections.abc import Callable, Mapping
from typing import Any

_NUMBERS = "(the numbers: --json)"


def outcome(output: Any) -> str:
    """Labels with scores, tagged words, answers with their places, `head: ...` per branch, or the shape of a matrix."""
    if isinstance(output, Mapping) and "answer" in output:
        return _span(output)
    if not isinstance(output, list) or not output:
        return json.dumps(output, ensure_ascii=False)
    first = output[0]
    if isinstance(first, Mapping):
        line = next((line for member, line in _LINES.items() if member in first), None)
        return json.dumps(output, ensure_ascii=False) if line is None else line(output)
    if isinstance(first, list) and first and isinstance(first[0], Mapping):
        return "  |  ".join(outcome(mask) for mask in output)
    if isinstance(first, list):
        return f"[{len(output)} tokens x {len(first)}] {_NUMBERS}"
    return f"[{len(output)} numbers] {_NUMBERS}"


def _span(item: Mapping[str, Any]) -> str:
    return f"{item['answer'] or '(no answer)'} {item['score']:.4f} [{item['start']}:{item['end']}]"


def _branch(item: Mapping[str, Any]) -> str:
    return f"{item['head'] or 'no head'}: {outcome(item['output'])}"


def _arc(item: Mapping[str, Any]) -> str:
    """A word with its relation to its head: the word's number there, 0 is the root."""
    return f"{item['word']}/{item['relation']}:{item['head']}"


def _each(word: Callable[[Mapping[str, Any]], str], between: str = "  ") -> Callable[[list[Any]], str]:
    return lambda output: between.join(word(item) for item in output)


def _scored(member: str) -> Callable[[list[Any]], str]:
    return _each(lambda item: f"{item[member].strip()} {item['score']:.4f}")


# By a member that only this kind of output has.
_LINES: Mapping[str, Callable[[list[Any]], str]] = {
    "output": _each(_branch, "  |  "),
    "entity": _each(lambda item: f"{item['word']}/{item['entity']}"),
    "entity_group": _each(lambda item: f"{item['word'].strip()}/{item['entity_group']} {item['score']:.4f}"),
    "label": _scored("label"),
    "answer": _each(_span),
    "token_str": _scored("token_str"),
    "relation": _each(_arc),
    "start_logits": lambda output: f"[{len(output)} windows of {len(output[0]['start_logits'])} tokens] {_NUMBERS}",
}
