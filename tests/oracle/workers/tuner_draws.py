"""What a seed draws for PEFT: a family, a tuner with its settings, the modules it adapts, a task, and how it is used."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import peft
from latest_draws import LATEST, Settings, in_layers, some
from lora_draws import FORMS
from peft_hosts import DECODERS, FAMILIES, GENERATING, HEADED, SECOND, targets, tasks_of
from task_draws import BOUND, task_id
from task_draws import PROMPTS as BOUND_PROMPTS


def _lora(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {
        "r": rng.choice((1, 2, 4, 8)),
        "lora_alpha": rng.choice((1, 4, 8, 16)),
        "use_rslora": rng.random() < 0.3,
        "use_dora": rng.random() < 0.25,
        "lora_dropout": rng.choice((0.0, 0.1)),
        "layers_to_transform": rng.choice((None, None, [0], [1])),
    }
    if rng.random() < 0.2:
        made |= {"lora_bias": True, "use_dora": False}
    elif rng.random() < 0.3:
        made |= {"init_lora_weights": rng.choice(("pissa", "olora", "gaussian", False))}
    return made


def _rank(**more: Any) -> Settings:
    return lambda rng: {"r": rng.choice((2, 4)), **{key: rng.choice(values) for key, values in more.items()}}


def _boft(rng: random.Random) -> dict[str, Any]:
    blocks = rng.choice(({"boft_block_size": 4, "boft_block_num": 0}, {"boft_block_size": 0, "boft_block_num": 4}))
    return {**blocks, "boft_n_butterfly_factor": rng.choice((1, 2))}


# Tuner -> (configuration, settings).
TUNERS: Mapping[str, tuple[str, Settings]] = {
    "lora": ("LoraConfig", _lora),
    "ia3": ("IA3Config", some(init_ia3_weights=(True,))),
    "prompt": ("PromptTuningConfig", some(num_virtual_tokens=(1, 3, 6))),
    "p_tuning": (
        "PromptEncoderConfig",
        some(
            num_virtual_tokens=(1, 4),
            encoder_hidden_size=(8, 16),
            encoder_reparameterization_type=("MLP", "LSTM"),
            encoder_num_layers=(1, 2),
        ),
    ),
    "prefix": ("PrefixTuningConfig", some(num_virtual_tokens=(1, 3, 6), prefix_projection=(False, False, True))),
    "cartridge": ("CartridgeConfig", some(num_virtual_tokens=(2, 3, 6), num_frozen_tokens=(0, 1, 2))),
    "ln_tuning": ("LNTuningConfig", some()),
    "trainable_tokens": ("TrainableTokensConfig", some(token_indices=([7, 9], [5, 30, 40, 41]))),
    "vera": (
        "VeraConfig",
        some(r=(2, 8), save_projection=(True, False), projection_prng_key=(0, 3), d_initial=(0.1, 0.5)),
    ),
    "adalora": ("AdaLoraConfig", some(init_r=(2, 6), lora_alpha=(2, 8), total_step=(10,))),
    "loha": ("LoHaConfig", _rank(alpha=(1, 8))),
    "lokr": ("LoKrConfig", _rank(alpha=(1, 8), decompose_both=(True, False), decompose_factor=(-1, 4))),
    "oft": (
        "OFTConfig",
        some(
            r=(0,),
            oft_block_size=(4, 8, 16),
            block_share=(True, False),
            use_cayley_neumann=(True, False),
            num_cayley_neumann_terms=(3, 5),
            coft=(False, False, True),
            eps=(6e-5, 1e-2),
        ),
    ),
    "boft": ("BOFTConfig", _boft),
    "c3a": ("C3AConfig", in_layers(some(block_size=(4, 8, 16)), block_size_pattern=(4, 8))),
    "hra": ("HRAConfig", some(r=(2, 4), apply_GS=(True, False))),
    "hira": ("HiraConfig", _rank()),
    "delora": ("DeloraConfig", in_layers(_rank(delora_lambda=(4, 15)), lambda_pattern=(2, 9), rank_pattern=(1, 3))),
    "gralora": ("GraloraConfig", some(r=(4, 8), gralora_k=(2, 4), hybrid_r=(0, 2), alpha=(4, 16))),
    "fourierft": (
        "FourierFTConfig",
        in_layers(
            some(n_frequency=(20, 100), scaling=(50.0, 150.0), random_loc_seed=(777, 3)), n_frequency_pattern=(30, 50)
        ),
    ),
    "waveft": (
        "WaveFTConfig",
        in_layers(
            some(
                n_frequency=(20, 100),
                wavelet_family=("db1", "db2", "sym4"),
                use_idwt=(True, False),
                proportional_parameters=(False, True),
            ),
            n_frequency_pattern=(30, 50),
        ),
    ),
    # Its default alpha of 640 makes the library's own float32 differ from its float64 by more than the tolerance.
    "randlora": (
        "RandLoraConfig",
        some(
            r=(4, 8),
            randlora_alpha=(2, 16),
            save_projection=(True, False),
            sparse=(False, True),
            very_sparse=(False, True),
        ),
    ),
    "road": ("RoadConfig", some(variant=("road_1", "road_2", "road_4"), group_size=(4, 8))),
    "shira": ("ShiraConfig", some(r=(1, 2), random_seed=(1, 5))),
    "vblora": (
        "VBLoRAConfig",
        _rank(num_vectors=(10, 16), vector_length=(4, 8, 16), topk=(1, 2), save_only_topk_weights=(False, True)),
    ),
    "miss": ("MissConfig", some(r=(2, 4, 8), init_weights=(True, "bat", "mini"), mini_r=(1, 2))),
    **LATEST,
    **{name: (bound.sort, bound.settings) for name, bound in BOUND.items()},
}
_PASTS = ("prefix", "cartridge")
_PROMPTS = ("prompt", "p_tuning", *_PASTS, *BOUND_PROMPTS)
METHODS = (*TUNERS, *FORMS)
_APART = ("lily",)  # what a row gets depends on its neighbours
_HEADLESS = ("trainable_tokens",)  # saves no head, so that its folder does not say what is answered
_WITHOUT_MODULES = (*_PROMPTS, "trainable_tokens", "ln_tuning", "adaption")
# GPT-2's maps are `Conv1D`, for which these tuners have no layer.
_LINEAR_ALONE = ("loha", "lokr", "oft", "boft", "c3a", "hra", "delora", "road", "shira", "miss", "osf")
# Models that take a past; those of the other families have no cache that a prefix could be put in.
_CACHING = ("bert", "roberta", "xlm-roberta", "electra", *SECOND, *DECODERS)
# Method -> families that the library runs it on, where that is not all of them.
_RUNS: Mapping[str, tuple[str, ...]] = {
    **{name: families for name, (_, families) in FORMS.items()},
    **{name: bound.families for name, bound in BOUND.items()},
    **dict.fromkeys(_PASTS, _CACHING),
    **dict.fromkeys(_LINEAR_ALONE, tuple(family for family in FAMILIES if family != "gpt2")),
    **dict.fromkeys((*_PROMPTS[:2], "trainable_tokens"), tuple(family for family in FAMILIES if family != "vit")),
}
# Tuners that train biases of the model as well, if they are told to.
_BIASED = (
    "boft",
    "c3a",
    "deft",
    "delora",
    "fourierft",
    "frod",
    "glora",
    "gralora",
    "hra",
    "miss",
    "oft",
    "pvera",
    "randlora",
    "tinylora",
    "unilora",
    "vblora",
    "vera",
    "waveft",
)
CLASSIFIERS = {"vit": "classifier", **dict.fromkeys(SECOND, "classification_head")}  # by no task's default
SCENES = ("alone", "alone", "alone", "mixed", "sum", "weighted")  # how LoRAs are used; see `peft_scenes`


@dataclass(frozen=True)
class Draw:
    """What was drawn. `configs`: of each adapter by name. `even`: rows of one length. `task_id`: the task of all rows.

    `apart`: rows one by one, without padding.
    """

    family: str
    method: str
    task: str
    configs: Mapping[str, Any]
    scene: str = "alone"
    even: bool = False
    task_id: int | None = None
    apart: bool = False

    @property
    def headed(self) -> bool:
        """Whether the model's class has a head that PEFT saves with the adapter."""
        return self.task in HEADED

    @property
    def generating(self) -> bool:
        """Whether the class has the backbone's own head over its vocabulary."""
        return self.task in GENERATING


def draw(rng: random.Random, seed: int) -> Draw:
    """A case from a seed; every tuner comes once in as many seeds that follow one another."""
    method = METHODS[seed % len(METHODS)]
    family = rng.choice(_RUNS.get(method, tuple(FAMILIES)))
    task = rng.choice([task for task in tasks_of(family) if _runs(method, family, task)])
    # The library has one saved head on at a time, and makes none out of several.
    scenes = SCENES if task not in HEADED else [scene for scene in SCENES if scene in ("alone", "mixed")]
    scene = rng.choice(scenes) if method == "lora" else "alone"
    names = ("default",) if scene == "alone" else ("a", "b", "c")[: rng.randint(2, 3)]
    configs = {name: _config(rng, method, family, task, scene) for name in names}
    # Around a prompt the model is told no ids, and takes the last position for the last token, padding or not.
    even = method in _PROMPTS and family in DECODERS and task == "SEQ_CLS"
    chosen = task_id(rng, configs[names[0]])
    even = even or task == "CAUSAL_LM" or (task == "SEQ_CLS" and family in SECOND)
    return Draw(family, method, task, configs, scene, even, chosen, method in _APART)


def _runs(method: str, family: str, task: str) -> bool:
    """Whether the library runs a method on a class."""
    if method in _HEADLESS:
        return task == "FEATURE_EXTRACTION"
    if method in BOUND:
        return task in BOUND[method].tasks
    if method in _PASTS and family in SECOND:
        return task == "SEQ_2_SEQ_LM"  # elsewhere it makes one stack's cache, which such a model does not take
    if method == "lora all-linear":  # else it adapts the head that it saves as well, which it then refuses
        return task not in HEADED or (task == "SEQ_CLS" and family != "distilbert")
    return True


def _config(rng: random.Random, method: str, family: str, task: str, scene: str) -> Any:
    if method in FORMS:
        sort, made = "LoraConfig", FORMS[method][0](rng, family)
    else:
        sort, made = TUNERS[method][0], TUNERS[method][1](rng)
    if scene == "mixed":  # the library mixes plain LoRA alone
        made |= {"use_dora": False, "init_lora_weights": True}
    if method in _BIASED:
        made["bias"] = rng.choice(("none", "none", "none", "all", f"{method}_only"))
    if method not in _WITHOUT_MODULES and "target_modules" not in made:
        made["target_modules"] = targets(rng, family)
    if method == "ia3":
        made["feedforward_modules"] = sorted(set(made["target_modules"]) & set(FAMILIES[family].feed))
    if method == "trainable_tokens":
        made["target_modules"] = [FAMILIES[family].words]
    if method == "ln_tuning":
        made["target_modules"] = list(FAMILIES[family].norms)
    if method in _PROMPTS[:2] and family in ("albert", "electra"):
        made["token_dim"] = 16  # as wide as their word vectors, where the library would take the layers' width
    shown = None if family == "vit" else task
    if family in CLASSIFIERS and task == "SEQ_CLS":
        made["modules_to_save"] = sorted({*made.get("modules_to_save", ()), CLASSIFIERS[family]})
    return getattr(peft, sort)(task_type=shown, **made)
