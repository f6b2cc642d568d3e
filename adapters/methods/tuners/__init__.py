"""PEFT's tuners of frozen maps: one file each, with the formula of its change of W [out, in].

A package holds what PEFT stores. At load it folds to the cheapest form that runs in mixed batches: LoRA's computation
where the change is of low rank, a full delta where it is not, factors where it scales or turns the outputs.
"""
