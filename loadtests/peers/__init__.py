"""`python -m loadtests peers`: the same adapters and rows through other libraries and through Chorus, in one run.

`contenders` says who takes part. Each library lives in a virtual environment of its own (`environments`, pinned by
`requirements/`) and in a process of its own (`process` is this side of it, `worker` the other, `messages` what passes
between them); `adapterhub`, `peft`, `transformers`, `onnxruntime`, `openvino` and `chorus` are what the processes run.
`workload` makes backbones, rows and adapters; `agreement` compares everyone's answers with those of Chorus in float32
before a clock is started; `meeting` has one compute at a time, in an order that turns; `ratios` and `judge` tell what
came of it, `report`, `picture` and `page` show it.
"""
