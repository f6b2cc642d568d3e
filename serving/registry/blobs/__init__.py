"""Where the bytes of packages are kept, each under its own sha256: what a digest leads to never changes.

store      the protocol `Blobs`, its errors, and what a digest is        local      files of the data folder
opening    from the settings to a store                                  objects    S3, GCS and Azure, over `bucket`
uploads    files that are being received                                 downloads  verified copies of remote blobs
keeping    a blob and the row that refers to it, as one step             source     what engines fetch from
files      the few ways in which this package touches the disk
"""
