"""From gateway to engine: send buffers, many tickets to a call, replies in groups, retries, and rows that kill.

    submit -> Affinity.choose -> lane of that replica -> one call for all that waits -> a future per ticket

A call costs about the same whatever it carries, so tickets that arrive together travel together. All calls to an engine
share one connection (`wires`), on which they are messages (`frames`) of rows written side by side (`freight`) and of what
the rows of a request share (`errands`). Waiting for room is the engine's business, not ours. A lost replica costs its
unanswered tickets a second journey, nothing else.

One of those tickets may be what killed it. A ticket is known by its `fingerprint`, so that a client's own retry, or
another client's copy, is the same suspect. All that was on board of a lost replica and has no answer is suspected by
every gateway, unless rows of the same content were answered lately (`record`), and travels again alone: of all suspects
of all gateways, one at a time is on board of any engine, and nobody is asked while another still is (`quarantine`,
`turns`; `blaming` says who is suspected, `telling` what the others have not heard). So that this takes no longer than a
step, a suspect that waits in the line of an engine is recalled. So a second loss names the culprit: it was on board of
two lost replicas, is refused for an hour by every gateway, and explains both losses, which frees all others. Whoever is
answered is cleared. Where two engines die at once, every row that was on board of both is refused, unless proof against
another is heard by the gateway's own turn (later proof lifts it): one of them may be the culprit, and to find out which
could cost a third. Hence two clients' worth of a poisonous request cost two engines in an hour, and its neighbours a
little time; a row that was answered lately and comes to kill costs two more for each gateway that vouches for it.
Beside suspects ordinary rows go on as ever: while there is one killer it is a suspect since the first loss, and none of
those. An engine that dies of something else while a suspect is asked on it convicts an innocent. A gateway that comes
up asks the others who is convicted or suspected; where all of them are gone at once, so is what they knew.

All retries are paid for by a budget (`budget`): a tenth of the rows, and a reserve for the death of a replica with
everything on board.
"""
