"""Where an adapter lies: files on disk, folded entries in host memory, slots of one arena on the device.

`tiered.TieredCache` is the one door: ask with `prefetch`, use with `try_acquire` (a `Lease`), audit with `check`.
Bytes rise disk -> host -> device on one loader thread; `admission` decides whose turn it is when room is short, by the
`turns` of tenants; `rooms` says what each may keep and take, and `victims` who has to go.
"""
