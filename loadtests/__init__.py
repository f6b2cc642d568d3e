"""Load that looks like users: open-loop arrivals, skewed popularity, and every answer checked.

    scenarios/   what a run is: TOML files and the values that they are read into
    traffic/     who asks what, and when: drawn before anything is sent
    served/      what it is sent to: a service of our own or a running one, and the adapters that it is given
    client/      how it is sent: processes that keep to the times, judge every answer, and measure their own lag
    results/     what came of it: figures, a verdict, and the folder that holds all of it
    pages/       how it is shown: pictures, one page, a few lines on the terminal
    running/     how a run goes, from the command line to the record

`run`, `compare`, `plot`, `listing` and `prove` are the verbs of `python -m loadtests`; `synthetic` makes adapters for any
backbone. `locustfile.py` and `k6.js` are for people who prefer those. `micro/` measures one mechanism of the library at a
time, `peers/` does the same work through other libraries, and `proofs/` breaks a service of its own on purpose, and sees that
its promises are kept.
"""
