"""Whether an answer is that of the version that was asked for: by what it says, and by what it computed."""

from collections.abc import Sequence

from loadtests.proofs.calls import Told, answered
from loadtests.proofs.fingerprints import Book, Identity


def fault_of(
    told: Told, named: tuple[str, int], book: Book, right: Identity | None, texts: Sequence[int] = (0,)
) -> str:
    """Why an answer is not right; empty where it is.

    `named` is the name and version that it has to tell, `right` who has to have answered, and `texts` which of the
    book's texts were asked about. What begins with `wrong:` is a wrong answer, anything else is none at all.
    """
    if told.status != 200:
        return told.why
    try:
        said, scores = answered(told)
    except ValueError as error:
        return f"wrong: {error}"
    if said != named:
        return "wrong: it names another version"
    if len(scores) != len(texts):
        return "wrong: another number of outputs"
    if right is None or any(book.read(text, row) != right for text, row in zip(texts, scores, strict=True)):
        return "wrong: another package answered"
    return ""


def is_wrong(fault: str) -> bool:
    """Whether it is the worst of all faults: an answer that is not right."""
    return fault.startswith("wrong:")
