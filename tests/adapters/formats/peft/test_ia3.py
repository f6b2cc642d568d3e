from adapters.formats.check import check
from adapters.formats.peft import folder as peft
from tests.adapters.formats.folders import CLASSIFIER, WIDE, H, attention, peft_config, peft_folder, profile
from tests.adapters.formats.peft.reading import assert_same, reasons, sites

IA3_KEYS = {
    **{f"base_model.model.{path}.ia3_l": (H, 1) for path in attention("key")},
    **{f"base_model.model.bert.encoder.layer.{i}.output.dense.ia3_l": (1, WIDE) for i in range(2)},
    **CLASSIFIER,
}
UNLIKE_LORA = {"peft_type": "IA3", "r": None, "lora_alpha": None}
IA3 = peft_config(
    **UNLIKE_LORA,
    target_modules=["key", r"2.output.dense", "layer.0.output.dense", "layer.1.output.dense"],
    feedforward_modules=["output.dense"],
)


def test_ia3_scales_outputs_and_the_inputs_of_feed_forward_modules(tmp_path):
    package = peft.read(peft_folder(tmp_path / "in", IA3, IA3_KEYS), profile())
    assert sites(package)["0/attn_k"] == {"at": "output", "scaling": 1.0}
    assert sites(package)["1/ffn_out"] == {"at": "input", "scaling": 1.0}
    assert package.tensors["1/ffn_out/scale"].shape == (WIDE,)
    check(package, profile())
    peft.write(package, tmp_path / "out")
    assert_same(package, peft.read(tmp_path / "out", profile()))


def test_ia3_can_scale_the_pooler_on_either_side(tmp_path):
    for side, shape in (("output", (H, 1)), ("input", (1, H))):
        config = peft_config(
            **UNLIKE_LORA,
            target_modules=["pooler.dense"],
            feedforward_modules=["pooler.dense"] if side == "input" else [],
        )
        keys = {"base_model.model.bert.pooler.dense.ia3_l": shape, **CLASSIFIER}
        package = peft.read(peft_folder(tmp_path / side, config, keys), profile())
        assert sites(package) == {"model/pooler": {"at": side, "scaling": 1.0}}
        check(package, profile())


def test_a_vector_of_the_wrong_side_is_refused(tmp_path):
    folder = peft_folder(tmp_path, IA3 | {"feedforward_modules": []}, IA3_KEYS)
    assert any("feedforward_modules contradicts" in reason for reason in reasons(folder))
