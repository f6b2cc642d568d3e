"""Replies on their way out: refusals made from errors, and one call per caller and step."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from adapters.errors import AdapterError
from serving.errors import REFUSALS, EngineFailed, ServiceError, from_library
from serving.logs import log
from serving.request import Refusal, Reply, Ticket
from serving.scheduler.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, and the row whose caller it goes to."""

    row: Waiting
    reply: Reply


def refusal(ticket: Ticket, error: ServiceError | AdapterError, replica: str) -> Refusal:
    """The reply to a ticket that gets no result; a code that is not in the table falls back to its kind."""
    if isinstance(error, AdapterError):
        error = from_library(error)
    code = error.code if error.code in REFUSALS else type(error).code
    return Refusal(ticket.id, code, error.detail, replica, error.retry_after)


def refused(row: Waiting, error: ServiceError | AdapterError, replica: str) -> Answer:
    """The answer to a row that gets no result; see `refusal`."""
    return Answer(row, refusal(row.ticket, error, replica))


def failed(row: Waiting, error: Exception, replica: str) -> Answer:
    """The answer to a row whose own step raised; the reason of a bug goes to the log and not to the caller."""
    if isinstance(error, ServiceError | AdapterError):
        return refused(row, error, replica)
    log("scheduler", "a row failed alone", level=logging.ERROR, error=True, ticket=row.ticket.id)
    return refused(row, EngineFailed("the engine failed on this input alone"), replica)


def send(answers: Iterable[Answer]) -> int:
    """Hand the answers to their callers, one call per caller; how many were sent.

    A caller that raises has lost its answers; it must not cost the others theirs.
    """
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(id(answer.row.sink), []).append(answer)
    for group in groups.values():
        try:
            group[0].row.sink(tuple(answer.reply for answer in group))
        except Exception:  # the callers' code; see above
            log("scheduler", "a caller did not take its answers", level=logging.ERROR, error=True)
    return sum(len(group) for group in groups.values())
