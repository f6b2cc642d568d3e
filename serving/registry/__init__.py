"""What is published, and which bytes it is: the SQL catalog, the blobs, and the way in (publish) and out (snapshot).

tables      the schema                      migrations/   how a present database becomes it
database    one engine, one writer          lookup        rows -> frozen records
catalog     the writes, one transaction each
blobs       content-addressed files         checker       hostile bytes, in a process of their own (check_worker)
targets     compositions -> pinned packages     members       what a target holds, and keeps from being retired
publish     upload -> checked -> durable -> told to every gateway
snapshot    names -> pinned versions, in memory, for every request
"""
