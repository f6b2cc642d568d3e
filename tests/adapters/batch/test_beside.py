"""Adaption prompts in batches, against transformers' own attention modules wrapped as PEFT wraps them."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel

from adapters.batch import beside
from adapters.batch.rows import Row
from adapters.manifest import PartSpec
from adapters.methods.fold import fold
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, LAYERS, PARTS

PROMPT = PARTS["adaption_prompt"]
HEADS, WIDTH = 4, HIDDEN // 4


def halves(q, cos, sin):
    first, second = q.chunk(2, dim=-1)
    return q * cos + torch.cat((-second, first), dim=-1) * sin


def wrapped(family, package, ids):
    """Hidden states [tokens, hidden] of transformers' model, whose attentions have the second one behind them."""
    model = AutoModel.from_pretrained(builders.folder(family), attn_implementation="eager").eval()
    for layer in range(LAYERS):
        module = model.h[layer].attn if family == "gpt2" else model.layers[layer].self_attn
        held = [package.tensors[f"{layer}/attn_kv/{name}"] for name in ("prompt", "gate")]

        def add(module, args, kwargs, output, held=held):
            prompt, gate = held
            x = (args[0] if args else kwargs["hidden_states"])[0]
            if family == "gpt2":
                q, _, _ = module.c_attn(x).split(HIDDEN, dim=1)
                _, k, v = module.c_attn(prompt).split(HIDDEN, dim=1)
                q, k, v = (t.view(len(t), -1, WIDTH) for t in (q, k, v))
            else:
                q, k, v = (t.view(len(t), -1, WIDTH) for t in (module.q_proj(x), module.k_proj(prompt), module.v_proj(prompt)))  # fmt: skip
                q = halves(q, *(t[0][:, None] for t in kwargs["position_embeddings"]))
                k, v = (t.repeat_interleave(HEADS // t.shape[1], dim=1) for t in (k, v))
            scores = torch.einsum("nhw,thw->hnt", q, k) / WIDTH**0.5
            found = torch.einsum("hnt,thw->nhw", gate * functional.softmax(scores, -1), v).flatten(1)
            found = found if family == "gpt2" else module.o_proj(found)
            return (output[0] + found, *output[1:])

        module.register_forward_hook(add, with_kwargs=True)
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(np.asarray(ids, np.int64))[None]).last_hidden_state[0]


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_rows_of_a_mixed_batch_are_what_wrapped_attentions_compute(family):
    packages = [builders.package(family, [PROMPT], seed=seed) for seed in range(3)]
    others = [builders.adapter(family, [PARTS[name]]) for name in ("lora_all", "prefix_flat", "seq_bn")]
    backbone = builders.backbone(family)
    own = [fold(package, backbone.profile, torch.float32, backbone.base_maps) for package in packages]
    residents = builders.in_one_arena([*own, *others], slack=2)
    rows = [Row((r,), None, None, builders.ids(i, 2 + 3 * i)) for i, r in enumerate((*residents, residents[0]))]
    rows += [Row((), None, None, builders.ids(9, 5))]
    outs = backbone.run(rows, ["hidden_state"] * len(rows))
    for i, held in ((0, 0), (1, 1), (2, 2), (6, 0)):
        expected = wrapped(family, packages[held], rows[i].input_ids)
        assert float((outs[i] - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    for i in (3, 4, 5, 7):
        alone = backbone.run([rows[i]], ["hidden_state"])[0]
        assert float((outs[i] - alone).abs().max()) < 1e-5 * float(alone.abs().max())


def test_hooks_are_there_only_for_layers_that_have_one():
    backbone = builders.backbone("llama")
    one = builders.adapter("llama", [PartSpec("adaption_prompt", {"length": 2, "layers": [1]})])
    prefix = builders.adapter("llama", [PARTS["prefix_flat"]])
    residents = builders.in_one_arena([one, prefix])
    row = Row((residents[0],), None, None, builders.ids(1, 4))
    assert [str(place) for place in beside.places(backbone.plan([row], [False]))] == ["1/attn_kv"]
    plain = Row((residents[1],), None, None, builders.ids(1, 4))
    assert not beside.places(backbone.plan([plain], [False]))
