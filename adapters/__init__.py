"""Neural adapters for one frozen backbone: not AdapterHub's library of this name, and not "ports and adapters".

The house, from the ground up (a module imports only from the floors below its own):

    errors files refs composition members requires manifest   what you may say, and what a package says of itself  (no torch)
    architectures/                     where adapters bite: sites, and a record per family     (no torch)
    kernels/                           segmented arithmetic over one arena                     (tensors only)
    weights  embeddings  heads/        what one package is in memory; one file per kind of head
    vocabulary                         a new vocabulary out of one that is there
    methods/                           how each kind computes: one file per method
    formats/                           how packages are read and written: native, AdapterHub, PEFT
    cache/                             where they live: disk, host, device; leases
    batch/                             how many run at once: rows, chains, programs, plan, hooks
    loading                            the frozen model from its folder, its maps on the quickest path
    backbone                           the frozen model: load once, forward(plan)
    second_rows generation             what decoders say, and encoder-decoders
    held losses passes                 packages that train, what they are trained on, one pass over them
    training  door/                    train an adapter from lines of text; the parts of AdapterHub's verbs
    model                              one user's Python door, with AdapterHub's verbs

The life of a batch:

 1. `formats.native.read` turns a file into a `weights.Package`: a manifest and stored (unfolded) tensors.
 2. `methods.fold.fold` folds every part into what a pass needs: a `weights.Adapter`, one flat tensor with a layout.
 3. `cache.tiered` keeps it: `try_acquire(refs)` gives a `Lease` of `weights.Resident`s (places in the device arena).
 4. `batch.rows.Row` names residents in their arrangement (chains, and forks of a fusion, an average or a split), a head,
    a vocabulary and token ids: one row. `Parallel` and `MultiTask` are rows of their own (`composition.branches`).
 5. `batch.plan.plan_batch` orders the rows so that equal arrangements touch. At every address, `batch.chains` says which
    adapters act on a row, and `batch.program` makes one short program of all rows: steps of one `Operand` each (adapters
    of one kin over segments of tokens), and branches over a workspace of their own. That is the frozen `BatchPlan`.
 6. `backbone.Backbone.forward` looks up word vectors per vocabulary, binds the plan (`batch.inject`) and runs the
    transformer once. Hooks hand each site's activations to `batch.junctions` and `batch.linears`, which run the
    programs; `batch.attention` (or `batch.disentangled`) attends per row, unpadded.
    `batch.lanes`: rows that visit the layers in an order of their own (PEFT's replicated layers) run them apart.
 7. A method computes all its adapters together with `kernels.ragged`: one GEMM per segment, or one batched GEMM.
 8. `heads` turn states into answers, heads of one shape together; every row gets its own share back.
"""
