"""How the load is sent: processes that import next to nothing, open loop, every answer judged, their own lag measured.

`connection` speaks HTTP/1.1, `plan` is what a process is told, `judging` says whether an answer is right, `sending` keeps to
the times, `process` is such a process (`python -m loadtests.client.process`), `publisher` the one that publishes beside the
load, and `crew` starts them, follows them, and takes home what they found.
"""
