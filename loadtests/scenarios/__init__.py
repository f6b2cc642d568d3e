"""What a run is: one TOML file each, and the frozen values that they are read into.

`values` says what may be said, `reading` reads a file (or one of the caller's own) and names what is wrong in it,
`steps` takes a sweep apart. The files beside these modules are the scenarios that come with the product.
"""
