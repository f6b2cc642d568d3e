"""What the load is sent to, and what that is given and asked beside the load.

`target` says where it is and who asks, `own` starts one of our own, `backbones` finds its model, `population` makes adapters and
computes what they answer, `hot` what is published beside the load, `api` speaks to the service, `counters` reads its metrics.
"""
