"""How a run goes, from the command line to the record.

`preparing` makes adapters and their answers, `taking` sends one step, `rounds` all of them, there and back, on a service of our
own or a running one; `showing` says how far it is.
"""
