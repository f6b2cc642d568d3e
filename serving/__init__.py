"""The service: many tenants' adapters over one frozen backbone per engine, behind one HTTP port.

The house, from the ground up (a module imports only from the floors below its own):

    errors config logs metrics        the ground
    request                           what travels between gateway and engine (arrays and digests, no torch)
    images/                           a stranger's image to pixels, in a process of its own; pixels to numbers
    tasks/  registry/                 text to ids, logits to answers; SQL catalog, blobs, publish, checker
    tenancy/                          keys and scopes; quotas, and who may come in now
    scheduler/                        who runs next: fair queue, batcher, the loop
    engine/                           step: lease, one forward pass, split, release          (the only torch of a replica)
    affinity dispatch/                which replica a ticket goes to; send buffers, wires, retries, cancels, rows that kill
    front                             the HTTP port: HAProxy's configuration, and its errors in JSON
    asking routing checking premises  Ray's handles behind plain protocols; the data folder, ports, leftovers
    sizing                            how many engines of how many threads a machine gets
    api/  calls                       HTTP, one file per surface; one call of the client
    replicas/                         the three kinds of process: gateway, engine, checker
    namespaces administration         the client's view of what is published, and of keys, tenants and the audit
    watching/                         publishes what appears in a folder, in a process of its own
    client leaving guard deployment   a typed client; how the service ends, also when it is killed; the composition root
    commands/ demo cluster cli        the operator's hand; what `serve deploy` builds

The life of a request:

 1. `api.app` gives it an id, authenticates it (`tenancy.keys`) and caps its body; `api.body` parses JSON strictly.
 2. `api.screening` counts what it asks for, and `tenancy.admission` lets it in or says when to come back: its tenant's
    quotas, and the wait before it against its deadline. `api.predict` reads it: `api.selection` resolves every name to
    a digest (`registry.snapshot`), a target to what it stands for, a parallel composition to its branches; from here on
    a hot swap cannot touch it. `api.preparing` has the task (`tasks`) tokenize: one row per input, or several (windows
    of a long text, choices of a question); `api.pictures` has images decoded (`images.decoder`). `api.rows` makes one
    `request.Ticket` per row and branch.
 3. `dispatch.dispatcher` chooses the replica most likely to hold the digests (`affinity`) and puts the tickets into
    that replica's send buffer; `dispatch.wires` sends them in one message on its connection to that engine.
 4. `replicas.listener` hands them to the engine: they wait in `scheduler.queue`, per tenant, while `scheduler.prefetch`
    has their adapters loaded off the batch thread.
 5. `scheduler.loop` takes a batch whose adapters are resident and has the engine begin it (`engine.batch`): lease,
    plan, one forward pass (`adapters.backbone`); then finish it: each row's own share (`engine.reduce`), release. On an
    accelerator the next batch is begun before that.
 6. Replies leave in the group that finished together; an unanswered ticket of a lost replica is sent to another one.
 7. `api.outcome` turns arrays into an answer (`tasks`), with the versions and digests that really ran, where the time
    went, and in which tier each adapter was found.

The life of an adapter: `commands.packages` reads a folder on the operator's machine and `PUT`s one native package;
`registry.publish` streams it to disk and hashes it, has it checked in full (`registry.checker`, a process of its own),
stores the blob under its digest, commits version, alias and audit in one transaction, and tells every gateway before it
acknowledges. Engines fetch it by digest at first use, and verify it. A promote may have a gate (`api.gate`). What every
engine has to keep (`request.Desired`: pins, and each tenant's share) is told once a second with the question of what it
holds, and where it listens. `registry.garbage`, `scrub` and `backup` work on the registry and the blobs without the
service.
"""
