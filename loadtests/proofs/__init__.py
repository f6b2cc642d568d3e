"""Promises of the service, one file each: started as an operator starts it, broken on purpose, and counted.

`python -m loadtests prove NAME` starts a service of its own on loopback, in a folder of its own, and prints what it
found as JSON; the exit code is 1 where a promise did not hold.
"""
