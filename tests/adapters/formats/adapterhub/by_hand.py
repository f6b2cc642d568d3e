"""AdapterHub's configurations and keys, written out by hand from checkpoints (not by the code under test)."""

from dataclasses import dataclass

from tests.adapters.formats.folders import LAYERS, WIDE, H, Shapes, lora, prefix, seq_bn

R, P, NARROW = 2, 3, 4


@dataclass(frozen=True)
class Family:
    """Where one family's checkpoints hold things; `{i}` is the layer."""

    root: str
    layer: str
    attention: str  # bottleneck behind the attention
    output: str  # bottleneck behind the feed-forward
    qkv: tuple[str, ...]
    ffn: tuple[str, str]
    prefix: tuple[str, str] | None = None  # module with the prefixes, and their name
    wide: int = WIDE  # width of what the first map of the feed-forward computes


_SELF = ("attention.self", "self_prefix")
_QKV = tuple(f"attention.self.{m}" for m in ("query", "key", "value"))
_BERT = (
    "encoder.layer.{i}",
    "attention.output.adapters",
    "output.adapters",
    _QKV,
    ("intermediate.dense", "output.dense"),
)
FAMILIES = {
    "bert": Family("bert.", *_BERT, _SELF),
    "roberta": Family("roberta.", *_BERT, _SELF),
    "xlm-roberta": Family("roberta.", *_BERT, _SELF),
    "electra": Family("electra.", *_BERT, _SELF),
    "deberta-v2": Family("deberta.", *_BERT[:3], tuple(f"{m}_proj" for m in _QKV), _BERT[4], _SELF),
    "distilbert": Family(
        "distilbert.",
        "transformer.layer.{i}",
        "attention_adapters.adapters",
        "output_adapters.adapters",
        tuple(f"attention.{m}_lin" for m in "qkv"),
        ("ffn.lin1", "ffn.lin2"),
        ("attention", "self"),
    ),
    "albert": Family(
        "albert.",
        "encoder.albert_layer_groups.{i}.albert_layers.0",
        "attention.attention_adapters.adapters",
        "output_adapters.adapters",
        tuple(f"attention.{m}" for m in ("query", "key", "value")),
        ("ffn", "ffn_output"),
        ("attention", "self_prefix"),
    ),
    "modernbert": Family(
        "",
        "layers.{i}",
        "attention_adapters.adapters",
        "output_adapters.adapters",
        ("attn.Wqkv",),
        ("mlp.Wi", "mlp.Wo"),
        None,
        2 * WIDE,
    ),
}


def layers(family: Family) -> list[str]:
    return [family.root + family.layer.format(i=i) for i in range(LAYERS)]


def linear(stem: str, out: int, wide: int) -> Shapes:
    return {f"{stem}.weight": (out, wide), f"{stem}.bias": (out,)}


def bottlenecks(family: Family, *, places: str = "o", extra=lambda stem: {}, plain=True) -> Shapes:
    """`places`: a (attention), o (output); `extra`: more tensors of a module."""
    keys: Shapes = {}
    for layer in layers(family):
        for place in places:
            stem = f"{layer}.{family.attention if place == 'a' else family.output}.a"
            if plain:
                keys |= linear(f"{stem}.adapter_down.0", NARROW, H) | linear(f"{stem}.adapter_up", H, NARROW)
            keys |= extra(stem)
    return keys


def invertible(family: Family) -> Shapes:
    keys: Shapes = {}
    for net in "FG":
        stem = f"{family.root}invertible_adapters.a.{net}"
        keys |= linear(f"{stem}.0", 2, 4) | linear(f"{stem}.2", 4, 2)
    return keys


def compacter(family: Family, *, factorized=True, rule=("phm_rule",), shared_w=False, shared_rule=True) -> Shapes:
    """phm_dim 2, phm_rank 1, places a and o."""
    d = 2
    shape = {"phm_rule": (d, d, d), "phm_rule_left": (d, d, 1), "phm_rule_right": (d, 1, d)}

    def blocks(wide: int, out: int) -> Shapes:
        left, right = (d, wide // d, 1), (d, 1, out // d)
        return {"_left": left, "_right": right} if factorized else {"": (d, wide // d, out // d)}

    def module(stem: str) -> Shapes:
        found: Shapes = {}
        for name, wide, out in (("adapter_down.0", H, NARROW), ("adapter_up", NARROW, H)):
            found[f"{stem}.{name}.b"] = (out,)
            if not shared_w:
                found |= {f"{stem}.{name}.W{side}": shape for side, shape in blocks(wide, out).items()}
            if not shared_rule:
                found |= {f"{stem}.{name}.{one}": shape[one] for one in rule}
        return found

    keys = bottlenecks(family, places="ao", extra=module, plain=False)
    shared = f"{family.root}shared_parameters.a"
    if shared_w:
        keys |= {f"{shared}.W_down{side}": shape for side, shape in blocks(H, NARROW).items()}
        keys |= {f"{shared}.W_up{side}": shape for side, shape in blocks(NARROW, H).items()}
    if shared_rule:
        keys |= {f"{shared}.{one}": shape[one] for one in rule}
    return keys


def maps(family: Family, letters: str) -> list[tuple[str, int, int, int]]:
    """(module, in, out, blocks) of the named maps: q k v, i (first of the feed-forward), o (second)."""
    found = []
    for layer in layers(family):
        attention = [letter for letter in letters if letter in "qkv"]
        if len(family.qkv) == 1 and attention:
            found.append((f"{layer}.{family.qkv[0]}", H, len(attention) * H, len(attention)))
        elif attention:
            found += [(f"{layer}.{family.qkv['qkv'.index(letter)]}", H, H, 1) for letter in attention]
        if "i" in letters:
            found.append((f"{layer}.{family.ffn[0]}", H, family.wide, 1))
        if "o" in letters:
            found.append((f"{layer}.{family.ffn[1]}", WIDE, H, 1))
    return found


def low_rank(family: Family, letters: str = "qv", *, gated=False, dora=False) -> Shapes:
    keys: Shapes = {}
    for path, wide, out, count in maps(family, letters):
        keys |= {f"{path}.loras.a.lora_A": (R * count, wide), f"{path}.loras.a.lora_B": (out, R)}
        keys |= {f"{path}.loras.a.m.weight": (out, 1)} if dora else {}
        keys |= linear(f"{path}.loras.a.gate", count, wide) if gated else {}
    return keys


def ia3(family: Family, letters: str = "kvi", *, gated=False) -> Shapes:
    keys: Shapes = {}
    for path, wide, out, count in maps(family, letters):
        keys[f"{path}.loras.a.lora_B"] = (out, 1)
        keys |= linear(f"{path}.loras.a.gate", count, wide) if gated else {}
    return keys


def vera(family: Family, *, dora=False) -> Shapes:
    keys: Shapes = {}
    for path, _, out, _ in maps(family, "qv"):
        keys |= {f"{path}.loras.a.vera_D": (R, R), f"{path}.loras.a.vera_B": (out, out)}
        keys |= {f"{path}.loras.a.m.weight": (out, 1)} if dora else {}
    shared = f"{family.root}shared_parameters.a"
    return keys | {f"{shared}.lora_A": (R, H), f"{shared}.lora_B": (H, R)}


def mtl(family: Family) -> Shapes:
    keys: Shapes = {}
    for path, wide, out, _ in maps(family, "qv"):
        stem = f"{path}.loras.a"
        keys |= {f"{stem}.lora_A": (R, wide), f"{stem}.lora_B": (3, out, R)}
        keys |= {f"{stem}.task_specific.values": (R,), f"{stem}.weights": (3,)}
    return keys


def prefixes(family: Family, *, gates: int = 0) -> Shapes:
    assert family.prefix is not None
    module, name = family.prefix
    stem = f"{family.root}prefix_tuning.prefix_tunings.a.{name}"
    keys = {f"{stem}.wte.weight": (P, H)}
    keys |= linear(f"{stem}.control_trans.0", 5, H) | linear(f"{stem}.control_trans.2", 2 * LAYERS * H, 5)
    for layer in layers(family):
        keys |= linear(f"{layer}.{module}.prefix_tuning.prefix_gates.a", gates, H) if gates else {}
    return keys


def prompt(family: Family) -> Shapes:
    return {f"{family.root}prompt_tuning.prompt_tunings.a.prompt_embedding.weight": (P, H)}


def reft(family: Family, *, units=(0, 1), orthogonal=False) -> Shapes:
    keys: Shapes = {}
    for layer in layers(family):
        for unit in units:
            stem = f"{layer}.reft_layer.refts.a.units.{unit}"
            keys |= linear(f"{stem}.learned_source", R, H)
            inside = f"{stem}.projection.parametrizations.weight"
            own = {f"{inside}.original": (R, H), f"{inside}.0.base": (H, H)}
            keys |= own if orthogonal else {f"{stem}.projection.weight": (R, H)}
    return keys


def fusion(family: Family, name="x,y", places="ao", *, value=True) -> Shapes:
    keys: Shapes = {}
    for layer in layers(family):
        for place in places:
            module = (family.attention if place == "a" else family.output).removesuffix("adapters")
            stem = f"{layer}.{module}adapter_fusion_layer.{name}"
            keys |= linear(f"{stem}.query", H, H) | linear(f"{stem}.key", H, H)
            keys |= {f"{stem}.value.weight": (H, H)} if value else {}
    return keys


def fusion_config(**changes):
    config = {
        "query": True,
        "key": True,
        "value": True,
        "query_before_ln": False,
        "residual_before": False,
        "value_before_softmax": True,
        "temperature": False,
        "regularization": True,
        "value_initialized": True,
        "dropout_prob": None,
    }
    return config | changes


def phm(**changes):
    own = {"mh_adapter": True, "phm_layer": True, "phm_dim": 2, "phm_rank": 1, "non_linearity": "gelu"}
    return seq_bn(**{**own, **changes})


def scale(**changes):
    own = {"composition_mode": "scale", "r": 1, "alpha": 1, "attn_matrices": ["k", "v"], "intermediate_lora": True}
    return lora(**{**own, **changes})


def mtl_config(**changes):
    task = {"n_up_projection": 3, "weights_sharpness": 0.5, "task_specific_matrix_type": "singular_values"}
    return lora(architecture="mtl_lora", **task) | changes


def reft_config(**changes):
    config = {
        "architecture": "reft",
        "layers": "all",
        "prefix_positions": 3,
        "suffix_positions": 1,
        "r": R,
        "orthogonality": False,
        "tied_weights": False,
        "non_linearity": None,
        "output_reft": True,
        "dropout": 0.05,
        "dtype": None,
    }
    return config | changes


PROMPT = {"architecture": "prompt_tuning", "prompt_length": P, "combine": "prefix"}
QKV_FFN = {"attn_matrices": ["q", "k", "v"], "intermediate_lora": True, "output_lora": True}


def cases(model_type: str):
    """Name -> (configuration, keys) of every method that the family can have."""
    f = FAMILIES[model_type]
    gate_and_norm = {"use_gating": True, "ln_after": True, "scaling": "channel", "mh_adapter": True}

    def more(stem):
        norm = {f"{stem}.adapter_norm_after.{kind}": (H,) for kind in ("weight", "bias")}
        return linear(f"{stem}.gate", 1, H) | norm | {f"{stem}.scaling": (H,)}

    found = {
        "seq_bn": (seq_bn(), bottlenecks(f)),
        "double_seq_bn": (seq_bn(mh_adapter=True, original_ln_before=False), bottlenecks(f, places="ao")),
        "par_bn": (seq_bn(is_parallel=True, scaling=4.0), bottlenecks(f)),
        "gate and norm": (seq_bn(**gate_and_norm), bottlenecks(f, places="ao", extra=more)),
        "seq_bn_inv": (seq_bn(inv_adapter="nice"), bottlenecks(f) | invertible(f)),
        "compacter": (phm(), compacter(f)),
        "lora": (lora(**QKV_FFN), low_rank(f, "qkvio")),
        "lora gated": (lora(use_gating=True), low_rank(f, gated=True)),
        "dora": (lora(selfattn_lora=False, output_lora=True, use_dora=True), low_rank(f, "o", dora=True)),
        "ia3": (scale(), ia3(f)),
        "ia3 gated": (scale(use_gating=True), ia3(f, gated=True)),
        "noreft": (reft_config(), reft(f)),
        "loreft": (reft_config(orthogonality=True, tied_weights=True), reft(f, units=(0,), orthogonal=True)),
    }
    if f.prefix is None:
        return found
    union = {"architecture": "union", "configs": [prefix(use_gating=True), seq_bn(use_gating=True), lora(r=2)]}
    gated = bottlenecks(f, extra=lambda stem: linear(f"{stem}.gate", 1, H))
    plus = seq_bn(original_ln_after=False, residual_before_ln=False, scaling="channel", stochastic_depth=0.1)
    return found | {
        "adapter plus": (plus, bottlenecks(f, extra=lambda stem: {f"{stem}.scaling": (H,)})),
        "prefix": (prefix(), prefixes(f)),
        "prefix gated": (prefix(use_gating=True, shared_gating=False, non_linearity="relu"), prefixes(f, gates=2)),
        "prompt": (PROMPT, prompt(f)),
        "vera": (lora(vera_d=0.1, vera_b=0.0), vera(f)),
        "dvora": (lora(vera_d=0.1, vera_b=0.0, use_dora=True), vera(f, dora=True)),
        "mtl": (mtl_config(), mtl(f)),
        "unipelt": (union, prefixes(f, gates=1) | gated | low_rank(f)),
    }
