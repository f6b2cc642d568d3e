"""What appears in the operator's folder is published: `chorus serve --watch DIR`.

    DIR/acme/tone                  a folder in any format that `push` reads     acme's `tone`
    DIR/acme/tone.safetensors      a native package                             acme's `tone`
    DIR/acme/team/tone             the same, below a folder that is no package  acme's `team/tone`

A folder is a package if a `.json` file or an embedding lies directly in it; any other is the first segment of names.
Names that begin with a dot or end in `.part` or `.tmp` are not looked at; copy to such a name and rename, and a package
appears at once. Otherwise one is published when it was the same in two looks, a second apart.

    places      what lies there, and what it is called
    watch       which of it is published now
    reading     a folder as a native package (the only torch here; pickles are refused)
    process     the process that does it, with the operator's rights on the registry and the blobs
    supervisor  starts it, and starts it again

Nothing is written into DIR, and nothing is retired when something leaves it. What became of each place stands in the
log, in `watch.json` of the data folder and at `GET /v1/watch`. A refused place is tried again when it changes.
"""
