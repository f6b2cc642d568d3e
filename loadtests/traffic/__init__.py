"""Who asks what, and when: drawn before anything is sent, so that a seed gives one load, always.

`popularity` draws adapters, `arrivals` times, `texts` what is asked about; `trace` puts them together for one step.
"""
