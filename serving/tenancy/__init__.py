"""Who may ask for what, and how much: keys (`keys`), tenants (`tenants`), and both in SQL (`store`).

Who may come in now is `admission`'s answer: `meters` and `buckets` hold a tenant's quotas, `forecast` tells how long a
request would wait in the engines, and a `grants.Grant` gives back what a request did not use.
"""
