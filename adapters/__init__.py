"""Neural adapters for one frozen backbone: not AdapterHub's library of this name, and not "ports and adapters".

The house, from the ground up (a module imports only from the floors below its own):

    errors refs composition manifest   what you may say, and what a package says of itself     (no torch)
    architectures/                     where adapters bite: sites, and a record per family     (no torch)
    kernels/                           segmented arithmetic over one arena                     (tensors only)
    weights  embeddings  heads         what one package is in memory
    methods/                           how each kind computes: one file per method
    formats/                           how packages are read and written: native, AdapterHub, PEFT
    cache/                             where they live: disk, host, device; leases
    batch/                             how many run at once: rows, segments, plan, hooks
    backbone                           the frozen model: load once, forward(plan)
    training                           train an adapter and its head through the same methods

The life of a batch:

 1. `formats.native.read` turns a file into a `weights.Package`: a manifest and stored (unfolded) tensors.
 2. `methods.fold.fold` folds every part into what a pass needs: a `weights.Adapter`, one flat tensor with a layout.
 3. `cache.tiered` keeps it: `try_acquire(refs)` gives a `Lease` of `weights.Resident`s (places in the device arena).
 4. `batch.rows.Row` names residents (a stack, a head), a vocabulary and token ids: one row.
 5. `batch.plan.plan_batch` orders the rows so that equal stacks touch, finds the segments of every depth
    (`batch.segments`), and gathers one `Operand` per address, depth and kin: a frozen `BatchPlan`.
 6. `backbone.Backbone.forward` looks up word vectors per vocabulary, binds the plan (`batch.inject`) and runs the
    transformer once. Hooks hand each site's activations to the methods; `batch.attention` attends per row, unpadded.
 7. A method computes all its adapters together with `kernels.ragged`: one GEMM per segment, or one batched GEMM.
 8. `heads.apply_heads` turns states into logits, heads of one shape together; every row gets its own share back.
"""
