from loadtests.micro import promises


def test_every_point_of_the_judge_is_a_promise():
    least = {(p.shape, p.dtype, p.methods, p.torch_only): p.least for p in promises.PROMISES}
    assert (
        least["bert-base", "bfloat16", ("bottleneck",), False]
        == least["bert-base", "bfloat16", ("lora",), False]
        == 0.9
    )
    assert least["bert-base", "bfloat16", ("double_bottleneck",), False] == 0.87
    assert least["minilm", "bfloat16", ("lora",), False] == 0.85
    assert least["minilm", "bfloat16", promises.SIX, False] == 0.8
    assert least["gpt2", "bfloat16", ("lora",), False] == least["llama", "bfloat16", ("bottleneck",), False] == 0.9
    assert least["gpt2", "float32", ("double_bottleneck",), False] == 0.87
    assert least["llama", "bfloat16", promises.DECODING, False] == 0.8
    assert {p.least for p in promises.PROMISES if p.dtype == "float32" and p.shape not in promises.DECODERS} == {0.9}
    assert {p.least for p in promises.PROMISES if p.torch_only} == {0.7}
    assert len(promises.SIX) == 6
